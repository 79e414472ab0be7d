"""From a trained network to every image's cluster.

In: a network, tokens (n, v, t, d).
Out: probabilities (h, n, k) of every head, representations (n, d); of one head, labels and
confidences (n,).
"""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.model.neighbours import Neighbourhood
from mfavbs.model.network import Network

_CHUNK = 1024  # images at once; times their views
_VOTERS = 6  # nearest kept images whose answers are averaged with an image's own


@torch.inference_mode()
def assign(network: Network, tokens: Tensor, heads: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Probabilities of the heads and a representation, averaged over the views of each image.

    Every view is fused with the next of the same image.

    Parameters
    ----------
    network
        Trained.
    tokens
        (n, v, t, d) from :meth:`Network.project`.
    heads
        Which heads; all by default.

    Returns
    -------
    tuple of Tensor
        (h, n, k) probabilities that sum to 1 over k, and (n, d) representations of unit length,
        on the network's device.
    """
    device = network.device
    probabilities, representations = [], []
    for part in tokens.split(_CHUNK):
        part = part.to(device)  # (b, v, t, d)
        a, _ = network.mfavbs(part.flatten(0, 1), part.roll(-1, dims=1).flatten(0, 1))
        pooled = a[:, 0]  # (b v, d)
        p = network.cluster_heads(pooled, heads).float().softmax(-1)  # (h, b v, k)
        probabilities.append(p.unflatten(1, part.shape[:2]).mean(2))
        r = F.normalize(pooled.float(), dim=-1).unflatten(0, part.shape[:2]).mean(1)
        representations.append(F.normalize(r, dim=-1))
    return torch.cat(probabilities, dim=1), torch.cat(representations)


@torch.inference_mode()
def average_with_neighbours(
    probabilities: Tensor, representations: Tensor, answers: Tensor, bank: Neighbourhood
) -> Tensor:
    """Average every image's probabilities with those of its nearest in the learned space.

    There 94 to 98 % of an image's nearest are of its class on Imagenette and the digits, and
    errors that the neighbours do not share average out. An image that is kept is its own nearest.

    Parameters
    ----------
    probabilities, representations
        (h, n, k) and (n, d), from :func:`assign`.
    answers, bank
        The same of the m images kept, (h, m, k) and a neighbourhood of (m, d).

    Returns
    -------
    Tensor
        (h, n, k).
    """
    # No more than half of what a cluster holds on average: they would outvote a small one.
    voters = max(1, min(_VOTERS, len(bank.rows) // (2 * answers.shape[-1])))
    answers = answers.float()
    averaged = []
    for p, r in zip(probabilities.split(_CHUNK, 1), representations.split(_CHUNK), strict=True):
        total = p + answers[:, bank.nearest(r, voters)].sum(2)  # (h, b, k)
        averaged.append(total / total.sum(-1, keepdim=True))
    return torch.cat(averaged, dim=1)


def decide(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label and confidence of every image from one head's probabilities (n, k).

    Warns if a cluster stays empty, with the number found.

    Returns
    -------
    tuple of ndarray
        (n,) int64 labels and (n,) float confidences in [1/k, 1].
    """
    labels = probabilities.argmax(axis=1)
    k, found = probabilities.shape[1], len(np.unique(labels))
    if found < k:
        warnings.warn(
            f"Only {found} of n_clusters={k} clusters have an image: the others stayed empty. "
            "A smaller n_clusters or more images would fit better.",
            stacklevel=3,
        )
    return labels, probabilities[np.arange(len(labels)), labels]
