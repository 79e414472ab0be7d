"""All images on a plane, like ones near each other.

In: embeddings (n, d) of unit length. Out: coordinates (n, 2).
"""

import numpy as np
from threadpoolctl import threadpool_limits

from mfavbs.memory import let_go

FITTED = 2_000  # images that the map is made of; the others are placed among them
_PERPLEXITY = 30
# Of the 1,000 steps that scikit-learn makes the later 500 move nothing that can be seen.
_STEPS = 500
_PLACED_BY = 10  # neighbours
_CHUNK = 4096


def map_images(
    embeddings: np.ndarray, *, seed: int = 0, fitted: int = FITTED, steps: int = _STEPS
) -> np.ndarray:
    """Coordinates of all images by t-SNE (van der Maaten and Hinton, JMLR 2008).

    It is fitted to a sample, from a start that says where things lie at large, the two principal
    components. Each other image goes to the median of its 10 nearest ones in the sample
    (Poličar et al., openTSNE). The same seed gives the same bytes on the same machine.

    Parameters
    ----------
    embeddings
        (n, d) of unit length.
    seed
        Which images are the sample.
    fitted
        How many images the sample has at most.
    steps
        Of the fit, at least 250.

    Returns
    -------
    ndarray
        (n, 2) float32, the middle at 0 and the farthest coordinate at 1 or -1.
    """
    n = len(embeddings)
    if not n:
        return np.empty((0, 2), np.float32)
    sample = np.arange(n)
    if n > fitted:
        sample = np.sort(np.random.default_rng(seed).choice(n, fitted, replace=False))
    points = np.empty((n, 2), np.float32)
    points[sample] = _fitted(embeddings[sample], steps)
    rest = np.setdiff1d(np.arange(n), sample)
    for start in range(0, len(rest), _CHUNK):
        rows = rest[start : start + _CHUNK]
        nearest = _nearest(embeddings[rows], embeddings[sample])  # (b, m)
        points[rows] = np.median(points[sample[nearest]], axis=1)
        let_go(embeddings)
    points -= (points.max(0) + points.min(0)) / 2
    return points / max(float(np.abs(points).max()), 1e-12)


def _fitted(x: np.ndarray, steps: int) -> np.ndarray:
    """Coordinates (m, 2) of these very images."""
    from sklearn.manifold import TSNE

    start = _two_principal(x)
    if len(x) < 5:  # too few for neighbours
        return start
    perplexity = min(_PERPLEXITY, (len(x) - 1) / 4)
    # One thread: several add up in another order each time.
    with threadpool_limits(1):
        return TSNE(2, perplexity=perplexity, init=start, max_iter=steps).fit_transform(x)


def _two_principal(x: np.ndarray) -> np.ndarray:
    """Where t-SNE starts: the two principal components (m, 2), as small as it wants them."""
    centred = x - x.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, :-3:-1]  # (d, 2), the largest first
    # The sign of an eigenvector is left to round-off.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    start = np.zeros((len(x), 2), np.float32)
    start[:, : axes.shape[1]] = centred @ axes
    return 1e-4 * start / max(float(start[:, 0].std()), 1e-12)


def _nearest(queries: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """(b, m) places of the nearest in the sample, in no order."""
    m = min(_PLACED_BY, len(sample))
    return np.argpartition(-(queries @ sample.T), m - 1, axis=1)[:, :m]
