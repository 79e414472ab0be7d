"""The chance that an image is in the same cluster in a refit on other images.

In: how many refits of the heads agree (n,), the probabilities (n, k). Out: a chance (n,).
"""

import numpy as np

# A logistic regression on what happened in whole refits on other images, chosen by leaving one set
# out: docs/experiments.md, "Confidence".
_AGREEMENT, _ALL_AGREE, _PROBABILITY, _CONSTANT = 0.375, 0.442, 0.576, -1.08
_HIGH = 3.0  # log odds below which a probability says little
_LEAST = 1e-4  # of a probability and of its complement
_LEAST_ALL = 1e-3


def chance_of_same_cluster(
    labels: np.ndarray,
    probabilities: np.ndarray,
    agreement: np.ndarray,
    n_refits: int,
    mean_agreement: float,
) -> np.ndarray:
    """How likely an image is in the same cluster when all is fitted anew on other images.

    Errors that every refit shares cannot be seen so: it is no chance of being right.

    Parameters
    ----------
    labels
        (n,) clusters.
    probabilities
        (n, k), k >= 2.
    agreement
        (n,) share of refits of the heads in which the image is in its cluster.
    n_refits
        Refits that ``agreement`` was counted in.
    mean_agreement
        The same of the run's images in the mean: what holds for all of them.

    Returns
    -------
    ndarray
        (n,) float32 in (0, 1).
    """
    k = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # Among many clusters a probability is small, however sure: half-way to the odds by chance.
    odds = _log_odds(own, _LEAST) + np.log(k - 1) / 2
    found = (
        # Neither none nor all of so few refits is never or always.
        _AGREEMENT * _log_odds(agreement, 0.5 / n_refits)
        + _ALL_AGREE * float(_log_odds(np.asarray(mean_agreement), _LEAST_ALL))
        + _PROBABILITY * np.logaddexp(0, odds - _HIGH)
        + _CONSTANT
    )
    return (1 / (1 + np.exp(-found))).astype(np.float32)


def _log_odds(share: np.ndarray, least: float) -> np.ndarray:
    return np.log((share + least) / (1 - share + least))
