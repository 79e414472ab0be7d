"""How odd an image is, and the few that fit nowhere.

In: embeddings (n, d) of unit length, clusters (n,). Out: scores (n,), p-values (n,), rows.
"""

from typing import NamedTuple

import numpy as np

from mfavbs.memory import let_go

# Of what a cluster holds on average. With fewer like it than the first an image is odd, be it one
# of a small group; by the second it is odd where it lies loosely, as no other does around it.
# Both measured by benchmarks/insight_outliers.py.
_PARTS = (0.6, 0.1)
_FEWEST = 3
_LEFT_OUT = 0.25  # of the images without their cluster are less odd than what fits nowhere
_MOST = 0.02  # of all images fit nowhere, at most
_ROWS = 5_000  # images that all are compared with
_ROWS_A_CLUSTER = 20  # or as many for each cluster, where that is more
_SAMPLE = 2_000  # images that are looked at without their cluster
_CHUNK = 1_024
_LEAST = 1e-6  # of a distance or a spread: what is less is round-off


class Others(NamedTuple):
    """What the oddness of an image is measured by: m images, evenly over the run.

    Attributes
    ----------
    embeddings
        (m, d) of unit length.
    rows
        (m,) which images of the run they are.
    n_near
        (2,) how many of them an image should have near it.
    distances
        (2, m) of each to as many nearest others, 1 - cosine.
    middle, spread
        (2,) of the logarithms of such distances, set against those around them.
    """

    embeddings: np.ndarray
    rows: np.ndarray
    n_near: tuple[int, ...]
    distances: np.ndarray
    middle: np.ndarray
    spread: np.ndarray


def choose_others(embeddings: np.ndarray, n_clusters: int) -> Others:
    """Choose the images that all are compared with.

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n >= 1.
    n_clusters
        k of the run: what has far fewer images like it than a cluster holds is odd.
    """
    n = len(embeddings)
    m = min(n, max(_ROWS, _ROWS_A_CLUSTER * n_clusters))
    rows = np.linspace(0, n - 1, m).round().astype(np.int64)
    n_near = tuple(
        min(max(_FEWEST, round(part * m / n_clusters)), max(1, m - 1)) for part in _PARTS
    )
    chosen = embeddings[rows].astype(np.float32, copy=False)
    none = np.zeros(len(n_near), np.float32)
    others = Others(chosen, rows, n_near, np.ones((len(n_near), m), np.float32), none, none + 1)
    if m < 2:
        return others
    itself = np.arange(m)
    others = others._replace(distances=_measured(chosen, others, itself)[0])
    quarters = np.quantile(_logarithms(chosen, others, itself), (0.25, 0.5, 0.75), axis=1)  # (3, 2)
    return others._replace(middle=quarters[1], spread=(quarters[2] - quarters[0]).clip(_LEAST))


def oddness(embeddings: np.ndarray, others: Others, rows: np.ndarray | None = None) -> np.ndarray:
    """How far each image is from having as many images like it as others have.

    The logarithm of the distance to its ``n_near``-th nearest, less half of that of the images next
    farther: what lies beside a dense group is odder than what lies as far from others in a loose
    one. In quarters of the run's own.

    Parameters
    ----------
    embeddings
        (b, d) of unit length.
    others
        From :func:`choose_others`.
    rows
        (b,) which images of the run they are, so that none is compared with itself; None for new
        images.

    Returns
    -------
    ndarray
        (2, b) float32, about 0 for a usual image, the larger the odder: by how few are like it, as
        in a group much smaller than a cluster, and by how loosely it lies among those. An image is
        as odd as the larger of the two says.
    """
    if len(others.rows) < 2:
        return np.zeros((len(_PARTS), len(embeddings)), np.float32)
    found = _logarithms(embeddings, others, _places(others, rows))
    return ((found - others.middle[:, None]) / others.spread[:, None]).astype(np.float32)


def p_values(scores: np.ndarray, of_run: np.ndarray | None = None) -> np.ndarray:
    """The share of the run's images that are as odd.

    Parameters
    ----------
    scores
        (b,) of new images; or of all images of the run.
    of_run
        (n,) scores of the run's own images, where the others are new.

    Returns
    -------
    ndarray
        (b,) in (0, 1]. A new image that was drawn as the run's were has p or less with probability
        p at the most.
    """
    sample = np.sort(scores if of_run is None else of_run)
    as_odd = len(sample) - np.searchsorted(sample, scores, side="left")
    new = of_run is not None  # a new image is counted as well; one of the run is already
    return ((as_odd + new) / max(1, len(sample) + new)).astype(np.float32)


def find_outliers(
    odd: np.ndarray, embeddings: np.ndarray, others: Others, clusters: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """The few images that fit nowhere, and the clusters that stand apart from all others.

    How few are like an image that has no cluster is seen on images whose own cluster is left out.
    What has as few as three quarters of these fits nowhere, but never more than 2 % of all. A
    cluster of which more than half is so odd has no outliers: it stands apart as a whole.

    Parameters
    ----------
    odd
        (2, n) of all images of the run, from :func:`oddness`.
    embeddings, clusters
        (n, d) and (n,).
    others
        From :func:`choose_others`.

    Returns
    -------
    tuple
        (m,) rows, the oddest first, and numbers of clusters.
    """
    without = _without_own(embeddings, others, clusters)
    if not len(without):
        return np.empty(0, np.int64), []
    alone = odd[0] > np.quantile(without, _LEFT_OUT)
    n_alone = np.bincount(clusters, alone)  # (k,)
    apart = np.flatnonzero(2 * n_alone > np.bincount(clusters))
    rows = np.flatnonzero(alone & ~np.isin(clusters, apart))
    rows = rows[np.argsort(-odd[0, rows], kind="stable")]
    return rows[: int(np.ceil(_MOST * len(clusters)))], apart.tolist()


def _without_own(embeddings: np.ndarray, others: Others, clusters: np.ndarray) -> np.ndarray:
    """How few are like some images, were their clusters not there; of none where there is one."""
    n = len(embeddings)
    rows = np.linspace(0, n - 1, min(n, _SAMPLE)).round().astype(np.int64)
    of_others = clusters[others.rows]
    scores = [np.empty(0, np.float32)]
    for number in np.unique(clusters[rows]):
        kept = of_others != number
        if kept.sum() < 2:
            continue
        rest = others._replace(
            embeddings=others.embeddings[kept],
            rows=others.rows[kept],
            n_near=tuple(min(near, int(kept.sum()) - 1) for near in others.n_near),
            distances=others.distances[:, kept],
        )
        scores.append(oddness(embeddings[rows[clusters[rows] == number]], rest)[0])
    return np.concatenate(scores)


def _places(others: Others, rows: np.ndarray | None) -> np.ndarray | None:
    """(b,) which of the others each image itself is, or -1."""
    if rows is None:
        return None
    at = np.searchsorted(others.rows, rows).clip(max=len(others.rows) - 1)
    return np.where(others.rows[at] == rows, at, -1)


def _logarithms(embeddings: np.ndarray, others: Others, own: np.ndarray | None) -> np.ndarray:
    """(2, b) logarithms of distances, less half of those around them."""
    distances, around = _measured(embeddings, others, own)
    return np.log(distances.clip(_LEAST)) - np.log(around.clip(_LEAST)) / 2


def _measured(
    embeddings: np.ndarray, others: Others, own: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(2, b) distances to the n_near-th nearest, and the means of those of the ones next farther.

    ``own``: (b,) which of the others an image itself is, -1 for none.
    """
    m = len(others.rows)
    ends = [(near, min(2 * near, m - 1)) for near in others.n_near]
    kth = sorted({end - 1 for pair in ends for end in pair})
    found = np.empty((2, len(ends), len(embeddings)), np.float32)
    for start in range(0, len(embeddings), _CHUNK):
        part = slice(start, start + _CHUNK)
        away = 1 - embeddings[part].astype(np.float32, copy=False) @ others.embeddings.T  # (c, m)
        if own is not None:
            has = np.flatnonzero(own[part] >= 0)
            away[has, own[part][has]] = np.inf
        order = np.argpartition(away, kth, axis=1)  # (c, m)
        for scale, (near, far) in enumerate(ends):
            last = order[:, near - 1 : near]
            found[0, scale, part] = np.take_along_axis(away, last, 1)[:, 0]
            beyond = order[:, near:far] if far > near else last
            found[1, scale, part] = others.distances[scale][beyond].mean(1)
        let_go(embeddings)
    return found[0], found[1]
