"""Scores of a clustering against known labels.

In: two sequences of n labels, of any kind.
Out: accuracy (ACC), normalised mutual information (NMI), adjusted Rand index (ARI),
purity.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils import check_consistent_length


def accuracy(labels_true: Sequence | np.ndarray, labels_pred: Sequence | np.ndarray) -> float:
    """Share of images in the right cluster under the best one-to-one match (Hungarian).

    Returns
    -------
    float
        In [0, 1]. With more clusters than classes the surplus clusters count as wrong.
    """
    check_consistent_length(labels_true, labels_pred)
    table = contingency_matrix(labels_true, labels_pred)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def purity(labels_true: Sequence | np.ndarray, labels_pred: Sequence | np.ndarray) -> float:
    """Share of images in a cluster whose most frequent class is theirs.

    Returns
    -------
    float
        In (0, 1]. Made for more clusters than classes, and growing with them: one cluster for
        each image has 1.
    """
    check_consistent_length(labels_true, labels_pred)
    table = contingency_matrix(labels_true, labels_pred)  # (classes, clusters)
    return float(table.max(axis=0).sum() / table.sum())


def score(labels_true: Sequence | np.ndarray, labels_pred: Sequence | np.ndarray) -> dict:
    """ACC, NMI and ARI as ``{"acc": .., "nmi": .., "ari": ..}``; 1 is perfect in each."""
    return {
        "acc": accuracy(labels_true, labels_pred),
        "nmi": float(normalized_mutual_info_score(labels_true, labels_pred)),
        "ari": float(adjusted_rand_score(labels_true, labels_pred)),
    }


def score_known(labels_true: Sequence[str | None], labels_pred: np.ndarray) -> dict:
    """Score the images whose label is known: `score`, and ``coverage``, their share of all.

    Parameters
    ----------
    labels_true, labels_pred
        (n,) labels, None or empty where there is none, at least one of them known; (n,) clusters.
    """
    check_consistent_length(labels_true, labels_pred)
    known = np.array([bool(label) for label in labels_true])
    labels = [label for label in labels_true if label]
    return {**score(labels, np.asarray(labels_pred)[known]), "coverage": float(known.mean())}
