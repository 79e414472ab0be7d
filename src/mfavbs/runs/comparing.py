"""Two clusterings with images in common: which cluster goes on as which, and what changed.

In: a run, and the images and clusters (n,) of another. Out: the run's row of each image; the
content of changes.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mfavbs.errors import RunError
from mfavbs.runs.identity import changes


class Clustered(Protocol):
    """What is asked of a run: :class:`mfavbs.Run` has it."""

    @property
    def folder(self) -> Path: ...
    @property
    def cluster(self) -> np.ndarray: ...
    @property
    def metrics(self) -> dict[str, Any]: ...
    @property
    def hashes(self) -> list[str] | None: ...
    @property
    def paths(self) -> list[str]: ...


def rows_in(before: Clustered, keys: Sequence[str], hashes: Sequence[str] | None) -> np.ndarray:
    """The row that each image has in a run, (n,), or -1.

    Images are the same by their contents, and by their names where contents are not recorded.

    Parameters
    ----------
    before
        The run.
    keys, hashes
        (n,) names and contents of the images.
    """
    by_content = before.hashes is not None and hashes is not None
    had, have = (before.hashes, hashes) if by_content else (before.paths, keys)
    row_of = {image: row for row, image in reversed(list(enumerate(had or ())))}  # the first counts
    return np.array([row_of.get(image, -1) for image in have or ()], np.int64)


def describe_changes(
    before: Clustered, was: np.ndarray, clusters: np.ndarray, n_clusters: int
) -> dict[str, Any]:
    """What became of a run's images and clusters, as changes.json has it.

    Parameters
    ----------
    before
        The run.
    was
        (n,) row that each image has there, or -1, from :func:`rows_in`.
    clusters, n_clusters
        (n,) and k as they are now.

    Returns
    -------
    dict
        ``images``: how many are ``new``, ``kept`` and ``gone``; ``clusters``: as
        :func:`mfavbs.runs.changes` has it.
    """
    known = was >= 0
    n_before = np.bincount(before.cluster, minlength=before.metrics["n_clusters"])
    n_after = np.bincount(clusters, minlength=n_clusters)
    images = before.hashes if before.hashes is not None else before.paths
    still = {images[row] for row in was[known]}  # copies of one image go and stay together
    return {
        "images": {
            "new": int((~known).sum()),
            "kept": int(known.sum()),
            "gone": sum(image not in still for image in images),
        },
        "clusters": changes(before.cluster[was[known]], clusters[known], n_before, n_after),
    }


def compare_runs(before: Clustered, after: Clustered) -> dict[str, Any]:
    """What became of one run's images and clusters in another; see :func:`describe_changes`.

    Raises
    ------
    RunError
        They have no image in common.
    """
    was = rows_in(before, after.paths, after.hashes)
    if not (was >= 0).any():
        raise RunError(
            f"{before.folder} and {after.folder} have no image in common; expected runs of folders "
            "that share images"
        )
    return describe_changes(before, was, after.cluster, after.metrics["n_clusters"])
