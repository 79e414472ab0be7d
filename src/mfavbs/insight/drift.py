"""Whether a folder of new images differs as a whole from those of the run, and in what.

In: features of the run's images (m, f) and of new ones (n, f), the clusters of both.
Out: a p-value, the clusters that are more or less frequent than in the run, the share of images
that are strange.
"""

from typing import TypedDict

import numpy as np
from scipy.stats import false_discovery_control, fisher_exact
from sklearn.metrics.pairwise import euclidean_distances

_MOST = 2_000  # images of either kind that are compared
_PERMUTATIONS = 999
_PARTS = 250  # permutations at once
_SURE = 0.01  # a cluster is named if its share differs so surely, among all
_STRANGE = 0.05  # p-value at which an image counts as strange


class Drift(TypedDict):
    """How new images differ from the run's.

    ``p`` is the p-value of the whole; ``strange`` the share of the new images that are as strange
    as the strangest 5 % of the run's; ``clusters`` has the clusters whose shares differ, with the
    share that they have now, and had in the run.
    """

    p: float
    n: int
    strange: float
    clusters: dict[str, list[float]]


def two_sample_test(features: np.ndarray, of_run: np.ndarray, seed: int = 0) -> float:
    """The chance of a difference as large as this if both were drawn alike.

    The maximum mean discrepancy under a Gaussian kernel as wide as the median distance, against
    that of random divisions of all of them (Gretton et al., JMLR 2012). More than 2,000 of either
    are represented by as many.

    Parameters
    ----------
    features, of_run
        (n, f) and (m, f), drawn independently.
    seed
        Of the sample and of the divisions.

    Returns
    -------
    float
        In [0.001, 1]; 1 where either has fewer than 2.
    """
    if min(len(features), len(of_run)) < 2:
        return 1.0
    rng = np.random.default_rng(seed)
    new, old = _some(features, rng), _some(of_run, rng)
    both = np.concatenate([new, old]).astype(np.float32)
    squares = euclidean_distances(both, squared=True)
    width = np.median(squares[: len(new), len(new) :])
    if width <= 0:  # all the same, or half of them
        width = max(float(squares.mean()), 1e-12)
    kernel = np.exp(-squares / width, dtype=np.float32)
    sign = np.where(np.arange(len(both)) < len(new), 1 / len(new), -1 / len(old))
    found = float(sign @ kernel @ sign)
    as_large = 0
    for start in range(0, _PERMUTATIONS, _PARTS):
        n_parts = min(_PARTS, _PERMUTATIONS - start)
        signs = rng.permuted(np.tile(sign, (n_parts, 1)), axis=1).astype(np.float32)
        as_large += int((((signs @ kernel) * signs).sum(1) >= found).sum())
    return (1 + as_large) / (1 + _PERMUTATIONS)


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= _MOST else rows[rng.choice(len(rows), _MOST, replace=False)]


def find_drift(
    features: np.ndarray,
    of_run: np.ndarray,
    clusters: np.ndarray,
    clusters_of_run: np.ndarray,
    p_values: np.ndarray,
    k: int,
) -> Drift:
    """Test new images against the run's, and tell what differs.

    Parameters
    ----------
    features, of_run
        (n, f) and (m, f).
    clusters, clusters_of_run
        (n,) and (m,) in 0..k-1.
    p_values
        (n,) of belonging to the run's images.
    k
        Clusters.
    """
    found = np.bincount(clusters, minlength=k), np.bincount(clusters_of_run, minlength=k)
    return {
        "p": two_sample_test(features, of_run),
        "n": len(features),
        "strange": float((p_values <= _STRANGE).mean()) if len(p_values) else 0.0,
        "clusters": {
            str(number): [round(float(count[number] / max(1, count.sum())), 4) for count in found]
            for number in _other_shares(*found)
        },
    }


def _other_shares(now: np.ndarray, before: np.ndarray) -> list[int]:
    """Clusters whose shares (k,) of n and m images differ, by Fisher's test, the largest first."""
    n, m = now.sum(), before.sum()
    if not n or not m:
        return []
    p = [fisher_exact([[a, n - a], [b, m - b]])[1] for a, b in zip(now, before, strict=True)]
    sure = np.flatnonzero(false_discovery_control(np.clip(p, 0, 1)) <= _SURE)
    change = np.abs(now / n - before / m)
    return sure[np.argsort(-change[sure], kind="stable")].tolist()
