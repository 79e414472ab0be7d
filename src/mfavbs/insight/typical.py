"""What a cluster looks like: its most typical images, and those that differ most.

In: embeddings (n, d) of unit length and the cluster of each image (n,). Out: rows of each cluster.
"""

import numpy as np

_MOST = 50_000  # images of a cluster that are looked at
_ALIKE = 0.9999  # cosine from which two images are one picture to a person


def typical_images(
    embeddings: np.ndarray, labels: np.ndarray, n_clusters: int, n_images: int = 8
) -> list[np.ndarray]:
    """Rows of each cluster's images nearest to its mean direction, nearest first.

    The first one is the cluster's middle image. Of copies one is taken, as long as there are
    others.

    Parameters
    ----------
    embeddings
        (n, d) of unit length.
    labels
        (n,) cluster numbers in 0..n_clusters-1.
    n_clusters, n_images
        How many clusters there are, and how many rows to give of each.

    Returns
    -------
    list of ndarray
        (at most n_images,) rows for each cluster; none for an empty one.
    """
    chosen = []
    for rows in _members(labels, n_clusters):
        x = embeddings[rows]  # (m, d)
        order = np.argsort(-(x @ x.sum(0)), kind="stable")
        first, copies = _without_copies(x, order, n_images)
        chosen.append(rows[(first + copies)[:n_images]])
    return chosen


def different_images(
    embeddings: np.ndarray, labels: np.ndarray, n_clusters: int, n_images: int = 8
) -> list[np.ndarray]:
    """Rows of each cluster's images that are the least like one another.

    Each is the one farthest from all before it, and the first the farthest from the middle image
    (farthest-first traversal, Gonzalez 1985): what else is in the cluster, its edges included.

    Parameters and what is returned are those of :func:`typical_images`; copies are left out.
    """
    chosen = []
    for rows in _members(labels, n_clusters):
        x = embeddings[rows]  # (m, d)
        picked: list[int] = []
        if len(rows):
            nearest = x @ x[int((x @ x.sum(0)).argmax())]  # (m,) cosine to the nearest picked
            while len(picked) < n_images and nearest.min() < _ALIKE:
                picked.append(int(nearest.argmin()))
                nearest = np.maximum(nearest, x @ x[picked[-1]])
        chosen.append(rows[picked])
    return chosen


def _members(labels: np.ndarray, n_clusters: int) -> list[np.ndarray]:
    """Rows of every cluster, in increasing order; of a very large one evenly some."""
    order = np.argsort(labels, kind="stable")
    members = np.split(order, np.searchsorted(labels[order], np.arange(1, n_clusters)))
    return [rows[:: -(-len(rows) // _MOST) or 1] for rows in members]


def _without_copies(x: np.ndarray, order: np.ndarray, wanted: int) -> tuple[list[int], list[int]]:
    """The first ``wanted`` places of ``order`` of which no two are alike, and those passed over."""
    first: list[int] = []
    copies: list[int] = []
    for place in order.tolist():
        if len(first) == wanted:
            break
        alike = first and (x[first] @ x[place]).max() >= _ALIKE
        (copies if alike else first).append(place)
    return first, copies
