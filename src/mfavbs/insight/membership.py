"""Whether a new image belongs to any cluster, or is like nothing that the run has seen.

In: features of some of the run's images (m, f), features of new images (b, f), of unit length.
Out: how strange each new image is (b,), to be set against the run's own images (m,).

The features are the encoder's own, and not what was projected: a projection, or heads, fitted on
the run's images would let these lie farther apart than new ones, and would have to be fitted again
without each. Of the encoder's features nothing was fitted, so leaving an image out is enough.
"""

from typing import NamedTuple

import numpy as np

_MOST = 5_000  # images kept of a run
# Measured: docs/experiments.md, "None of these".
_NEAR = 5  # nearest, whose mean distance says how strange an image is
_AROUND = 10  # nearest, whose own such distances say how dense the run is there
_POWER = 0.5  # how far that counts
_LEAST = 1e-6  # of a distance: what is less is round-off
_CHUNK = 1_024


class Reference(NamedTuple):
    """What new images are compared with: m images, evenly over the run.

    Attributes
    ----------
    features
        (m, f) of unit length: the mean of an image's views.
    clusters
        (m,) of each.
    distances
        (m,) mean distance of each to its nearest others, 1 - cosine.
    strangeness
        (m,) of each, set against all others.
    """

    features: np.ndarray
    clusters: np.ndarray
    distances: np.ndarray
    strangeness: np.ndarray


def choose_rows(n: int) -> np.ndarray:
    """The rows (m,) of n images that are kept of a run."""
    return np.linspace(0, n - 1, min(n, _MOST)).round().astype(np.int64)


def make_reference(features: np.ndarray, clusters: np.ndarray) -> Reference:
    """Set each of these images against all others of them.

    Parameters
    ----------
    features
        (m, f) of unit length, m >= 1; kept in float16.
    clusters
        (m,).
    """
    kept = features.astype(np.float16)
    m = len(kept)
    if m < 2:
        return Reference(kept, clusters, np.ones(m, np.float32), np.zeros(m, np.float32))
    nearest, away = _nearest(kept, kept, np.arange(m))  # (m, 10), the nearest first
    distances = away[:, :_NEAR].mean(1)
    around = _without(distances, nearest, away).mean(1)
    return Reference(kept, clusters, distances, _relative(distances, around))


def strangeness(features: np.ndarray, reference: Reference) -> np.ndarray:
    """How far each new image is from the nearest of the run's, for how dense the run is there.

    The logarithm of its mean distance to its 5 nearest, less half of that of the 10 nearest images'
    own: between the distance itself (Sun et al., ICML 2022) and LOF (Breunig et al., SIGMOD 2000),
    which takes all of the density out.

    Parameters
    ----------
    features
        (b, f) of unit length.

    Returns
    -------
    ndarray
        (b,) float32, the larger the stranger; :func:`mfavbs.insight.p_values` sets them against the
        run's own, ``reference.strangeness``.
    """
    if len(reference.features) < 2:
        return np.zeros(len(features), np.float32)
    nearest, away = _nearest(features, reference.features)
    return _relative(away[:, :_NEAR].mean(1), reference.distances[nearest].mean(1))


def _without(distances: np.ndarray, nearest: np.ndarray, away: np.ndarray) -> np.ndarray:
    """(m, 10) mean distances of the images nearest to each, as they were if it was not there.

    So they are for a new image, which is in nobody's mean: else the run's own images would be the
    stranger, as each is what makes its surroundings dense.
    """
    if away.shape[1] <= _NEAR:
        return distances[nearest]
    next_one = away[nearest, _NEAR]  # what comes in where one goes out
    counted = away <= away[nearest, _NEAR - 1]
    return distances[nearest] + np.where(counted, next_one - away, 0) / _NEAR


def _relative(distances: np.ndarray, around: np.ndarray) -> np.ndarray:
    found = np.log(distances.clip(_LEAST)) - _POWER * np.log(around.clip(_LEAST))
    return found.astype(np.float32)


def _nearest(
    features: np.ndarray, others: np.ndarray, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(b, at most 10) the nearest of (m, f) others, and how far each is, the nearest first.

    ``own``: (b,) which of the others an image itself is.
    """
    others = others.astype(np.float32)
    n_found = min(_AROUND, len(others) - (own is not None))
    nearest = np.empty((len(features), n_found), np.int64)
    distances = np.empty((len(features), n_found), np.float32)
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        away = 1 - features[part].astype(np.float32) @ others.T  # (c, m)
        if own is not None:
            away[np.arange(len(away)), own[part]] = np.inf
        found = np.argpartition(away, n_found - 1, axis=1)[:, :n_found]
        order = np.take_along_axis(away, found, 1).argsort(axis=1)
        nearest[part] = np.take_along_axis(found, order, 1)
        distances[part] = np.take_along_axis(away, nearest[part], 1)
    return nearest, distances
