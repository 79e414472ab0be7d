"""Whether the same call as before has anything to do; told without torch, in a second or two.

In: what is asked for, word for word, and the images as they are now. Out: the store, if it holds
just that already.
"""

import contextlib
from pathlib import Path
from typing import Any

from mfavbs.encoders import Weights, each_encoder
from mfavbs.features.elsewhere import is_sent
from mfavbs.features.store import FeatureStore
from mfavbs.files import read_json, write_json
from mfavbs.images import Images

_ASKED = "asked.json"


def words_of(weights: Weights, **asked: Any) -> dict[str, Any]:
    """What is asked for, and which files of weights: where they are, their sizes and times."""
    asked_for = each_encoder(asked["encoder"], weights)
    files = [one.weights and _file(one.weights.resolve()) for one in asked_for]
    return asked | {"weights": files} if any(files) else asked


def _file(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime]


def remember(out: Path, asked: dict[str, Any]) -> None:
    """Note beside a finished store what it was asked for."""
    if read_json(out / _ASKED) != asked:
        with contextlib.suppress(OSError):  # a full disk: the next call looks at more
            write_json(out / _ASKED, asked)


def nothing_new(out: Path, asked: dict[str, Any], images: Images) -> FeatureStore | None:
    """The store in ``out``, if the same call made it and no image has changed since."""
    if images.kind == "array" or read_json(out / _ASKED) != asked or not is_sent(out):
        return None
    store = FeatureStore.open(out)
    return None if store.diff(images) or store.skipped != images.skipped else store
