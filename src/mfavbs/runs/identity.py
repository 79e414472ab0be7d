"""Which cluster of a new clustering is which of an old one, and what became of each.

In: cluster numbers before and after of the m images that both have, and how many clusters there
are. Out: the number that each new cluster should bear; what grew, split, merged, came and went.
"""

from typing import TypedDict

import numpy as np

# MONIC's thresholds (Spiliopoulou et al., KDD 2006): a cluster survives in the one that holds half
# of its images; it has split where parts of a quarter and more hold half of it together.
_SURVIVES = 0.5
_PART = 0.25


class Changes(TypedDict):
    """What became of the old clusters; every list holds cluster numbers.

    ``continued`` maps an old cluster to the new one that it goes on as, ``split`` an old one to the
    new ones it went to, ``merged`` a new one to the old ones it came from. ``grown`` has, by new
    cluster, how many images it had and has.
    """

    continued: dict[int, int]
    grown: dict[int, list[int]]
    split: dict[int, list[int]]
    merged: dict[int, list[int]]
    vanished: list[int]
    new: list[int]


def continue_numbers(before: np.ndarray, after: np.ndarray, k_before: int, k: int) -> np.ndarray:
    """Renumber new clusters so that each bears the number of the old one it continues.

    Old and new clusters are matched one to one by the images they share (Hungarian). What is
    matched to none, or to a number that k clusters do not have, takes a number that is left.

    Parameters
    ----------
    before, after
        (m,) cluster numbers of the images that both clusterings hold, in 0..k_before-1 and 0..k-1.
    k_before, k
        How many clusters there were and are.

    Returns
    -------
    ndarray
        (k,) a permutation: new cluster ``j`` should bear the number ``numbers[j]``.
    """
    from scipy.optimize import linear_sum_assignment  # not needed to refuse what cannot be done

    shared = _shared(before, after, k_before, k)  # (k_before, k)
    old, new = linear_sum_assignment(shared[:k], maximize=True)
    numbers = np.full(k, -1)
    matched = shared[old, new] > 0
    numbers[new[matched]] = old[matched]
    numbers[numbers < 0] = np.setdiff1d(np.arange(k), numbers)
    return numbers


def changes(
    before: np.ndarray, after: np.ndarray, n_before: np.ndarray, n_after: np.ndarray
) -> Changes:
    """Tell what became of each old cluster, in the terms of MONIC (KDD 2006).

    Parameters
    ----------
    before, after
        (m,) cluster numbers of the images that both clusterings hold.
    n_before, n_after
        (k_before,) and (k,) images in every cluster, those that only one of the two holds as well.
    """
    shared = _shared(before, after, len(n_before), len(n_after))
    part = shared / np.maximum(shared.sum(1, keepdims=True), 1)  # of each old cluster
    goes_to = {i: int(part[i].argmax()) for i in range(len(part)) if part[i].max() >= _SURVIVES}
    split: dict[int, list[int]] = {}
    for i in set(range(len(part))) - set(goes_to):
        parts = np.flatnonzero(part[i] >= _PART)
        if len(parts) > 1 and part[i, parts].sum() >= _SURVIVES:
            split[i] = parts.tolist()
    sources: dict[int, list[int]] = {}
    for i, j in goes_to.items():
        sources.setdefault(j, []).append(i)
    merged = {j: came for j, came in sorted(sources.items()) if len(came) > 1}
    continued = {came[0]: j for j, came in sorted(sources.items()) if len(came) == 1}
    had = np.flatnonzero(n_before > 0).tolist()
    reached = {*sources, *(j for parts in split.values() for j in parts)}
    return {
        "continued": continued,
        "grown": {
            j: [int(n_before[i]), int(n_after[j])]
            for i, j in continued.items()
            if n_after[j] > n_before[i]
        },
        "split": dict(sorted(split.items())),
        "merged": merged,
        "vanished": [i for i in had if i not in goes_to and i not in split],
        "new": [j for j in np.flatnonzero(n_after > 0).tolist() if j not in reached],
    }


def _shared(before: np.ndarray, after: np.ndarray, k_before: int, k: int) -> np.ndarray:
    """(k_before, k): how many images each old and new cluster share."""
    n = max(k_before, k)
    if not len(before):
        return np.zeros((k_before, k), np.int64)
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(before, after, labels=np.arange(n))[:k_before, :k]
