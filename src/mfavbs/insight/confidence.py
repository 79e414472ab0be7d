"""The chance that an image is in the same cluster in a refit on other images.

In: how many refits of the heads agree, and the probability of the cluster (n,). Out: a chance (n,).
"""

import numpy as np

# A logistic regression on what happened in whole refits on other images, of sets other than those
# that it was judged by: docs/experiments.md, "Confidence".
_WEIGHTS = {"agreement": 0.35, "all": 0.47, "probability": 0.39}
_CONSTANT = -1.31
_LEAST = 1e-4  # of a probability and of its complement


def chance_of_same_cluster(
    agreement: np.ndarray, mean_agreement: float, probability: np.ndarray, n_refits: int
) -> np.ndarray:
    """How likely an image is in the same cluster when all is fitted anew on other images.

    Errors that every refit shares cannot be seen so: it is no chance of being right.

    Parameters
    ----------
    agreement
        (n,) share of refits of the heads in which the image is in its cluster.
    mean_agreement
        The same of the run's images in the mean.
    probability
        (n,) of the image's cluster.
    n_refits
        Refits that ``agreement`` was counted in.

    Returns
    -------
    ndarray
        (n,) float32 in (0, 1).
    """
    rest = 0.5 / n_refits  # neither none nor all of so few is never or always
    found = (
        _WEIGHTS["agreement"] * _log_odds(agreement, rest)
        + _WEIGHTS["all"] * _log_odds(np.asarray(mean_agreement), rest)
        + _WEIGHTS["probability"] * _log_odds(probability, _LEAST)
        + _CONSTANT
    )
    return (1 / (1 + np.exp(-found))).astype(np.float32)


def _log_odds(share: np.ndarray, least: float) -> np.ndarray:
    share = np.clip(share.astype(np.float64), 0, 1)
    return np.log((share + least) / (1 - share + least))
