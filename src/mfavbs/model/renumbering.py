"""Cluster numbers of a fitted model, permuted."""

from typing import Any

import numpy as np
import torch


@torch.no_grad()
def renumber(model: Any, numbers: np.ndarray) -> None:
    """Give the clusters of a fitted :class:`MFAVBsClustering` other numbers, in place.

    Parameters
    ----------
    model
        Fitted; what it predicts afterwards bears the new numbers.
    numbers
        (k,) a permutation: cluster ``j`` becomes ``numbers[j]``.
    """
    old = np.argsort(numbers)  # new column i is old column old[i]
    network = model.network_
    columns = torch.from_numpy(old)
    prototypes = network.cluster_heads.prototypes  # (h, k, d)
    prototypes.copy_(prototypes[:, columns.to(prototypes.device)])
    bank = network.bank_probabilities  # (m, k)
    bank.copy_(bank[:, columns.to(bank.device)])
    model.probabilities_ = model.probabilities_[:, old]
    model.labels_ = np.asarray(numbers)[model.labels_].astype(model.labels_.dtype)
