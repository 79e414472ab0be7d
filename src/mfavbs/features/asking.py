"""Whether the same call as before has anything to do; told without torch, in a second or two.

In: what is asked for, word for word, and the images as they are now. Out: the store, if it holds
just that already.
"""

import contextlib
from pathlib import Path
from typing import Any

from mfavbs.features.store import FeatureStore
from mfavbs.files import read_json, user_path, write_json
from mfavbs.images import Images

_ASKED = "asked.json"


def words_of(weights: str | Path | None, **asked: Any) -> dict[str, Any]:
    """What is asked for, and which file of weights: where it is, its size and its time."""
    if weights is None:
        return asked
    path = user_path(weights).resolve()
    stat = path.stat()
    return asked | {"weights": [str(path), stat.st_size, stat.st_mtime]}


def remember(out: Path, asked: dict[str, Any]) -> None:
    """Note beside a finished store what it was asked for."""
    if read_json(out / _ASKED) != asked:
        with contextlib.suppress(OSError):  # a full disk: the next call looks at more
            write_json(out / _ASKED, asked)


def nothing_new(out: Path, asked: dict[str, Any], images: Images) -> FeatureStore | None:
    """The store in ``out``, if the same call made it and no image has changed since."""
    if images.kind == "array" or read_json(out / _ASKED) != asked:
        return None
    store = FeatureStore.open(out)
    return None if store.diff(images) or store.skipped != images.skipped else store
