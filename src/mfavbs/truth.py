"""Known labels of images, which clusters are scored against and never trained on.

In: labels as they were given, or the wish to take the folders for them. Out: a label for each
readable image, (n,), or None.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from mfavbs.errors import SourceError
from mfavbs.launching import peers
from mfavbs.model import Number, least_images
from mfavbs.sources import Features, OpenedSource

_ONE_FOLDER = (
    "Labels were to come from sub-folders, but all images lie in one. "
    "Drop labels_from_folders=, or sort the labelled images into a folder for each label."
)


def check_early(
    opened: OpenedSource,
    n_clusters: Number,
    labels: Sequence[str | None] | None,
    from_folders: bool,
) -> None:
    """Refuse before hours of encoding what can be refused before it."""
    n = len(opened.keys)
    least = least_images(n_clusters)
    if n < least:
        raise SourceError(
            f"{n:,} images are too few for n_clusters={n_clusters}; lower n_clusters= or add "
            "images."
            if isinstance(n_clusters, int)
            else f"{n:,} images are too few to find n_clusters={n_clusters!r}; expected {least} at "
            "least. Give the number of clusters, or add images."
        )
    others = peers()
    if others is not None and n < others.size:
        raise SourceError(
            f"{n:,} images are too few for {others.size} processes (WORLD_SIZE), which share each "
            f"batch. Start {n} at the most, or add images."
        )
    if labels is not None and len(labels) != n:
        raise SourceError(f"{len(labels)} labels for {n} images; expected one each.")
    if from_folders and labels is None and opened.folders is None:
        raise SourceError(_ONE_FOLDER)


def known_labels(
    features: Features,
    opened: OpenedSource,
    labels: Sequence[str | None] | None,
    from_folders: bool,
) -> Sequence[str | None] | None:
    """Known labels of the readable images, (n,), for scoring only; None where one is not known."""
    if labels is not None:
        by_key = dict(zip(opened.keys, map(_label, labels), strict=True))
        return [by_key[key] for key in features.keys]
    if not from_folders:
        return None
    if features.folders is None:
        raise SourceError(_ONE_FOLDER)
    return features.folders


def _label(given: Any) -> str | None:
    """A label as text; empty text, None and NaN are none."""
    if given is None or given != given or not str(given).strip():
        return None
    return str(given)


def said_of(labels: Sequence[str | None] | None, from_folders: bool) -> str | None:
    """Which labels a run is scored against, in words by which it is recognised."""
    if labels is None:
        return "folders" if from_folders else None
    digest = hashlib.blake2b("\0".join(map(str, labels)).encode("utf-8", "backslashreplace"))
    return f"given ({len(labels)}, {digest.hexdigest()[:8]})"
