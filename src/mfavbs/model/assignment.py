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

from mfavbs.memory import let_go
from mfavbs.model.neighbours import Neighbourhood
from mfavbs.model.network import Network
from mfavbs.model.room import Rows

_CHUNK = 1024  # images at once; times their views
_DECIDED = 65_536  # images decided at once
_VOTERS = 6  # nearest kept images whose answers are averaged with an image's own


@torch.inference_mode()
def assign(network: Network, tokens: Rows, heads: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Probabilities of the heads and a representation, averaged over the views of each image.

    Every view is fused with the next of the same image.

    Parameters
    ----------
    network
        Trained.
    tokens
        (n, v, t, d) from :meth:`Network.project`, in memory or on the disk.
    heads
        Which heads; all by default.

    Returns
    -------
    tuple of Tensor
        (h, n, k) probabilities that sum to 1 over k, and (n, d) representations of unit length,
        on the network's device.
    """
    device, n, h = network.device, len(tokens), len(range(network.n_cluster_heads)[heads])
    probabilities = torch.empty(h, n, network.n_clusters, dtype=torch.float32, device=device)
    representations = torch.empty(n, network.width, dtype=torch.float32, device=device)
    for start, part in zip(range(0, n, _CHUNK), tokens.split(_CHUNK), strict=True):
        rows = slice(start, start + _CHUNK)
        part = part.to(device).float()  # (b, v, t, d)
        a, _ = network.mfavbs(part.flatten(0, 1), part.roll(-1, dims=1).flatten(0, 1))
        pooled = a[:, 0]  # (b v, d)
        p = network.cluster_heads(pooled, heads).float().softmax(-1)  # (h, b v, k)
        probabilities[:, rows] = p.unflatten(1, part.shape[:2]).mean(2)
        r = F.normalize(pooled.float(), dim=-1).unflatten(0, part.shape[:2]).mean(1)
        representations[rows] = F.normalize(r, dim=-1)
    return probabilities, representations


@torch.inference_mode()
def average_with_neighbours(
    probabilities: Tensor, representations: Tensor, answers: Tensor, bank: Neighbourhood
) -> Tensor:
    """Average each image's probabilities, in place, with its nearest's in the learned space.

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
    for p, r in zip(probabilities.split(_CHUNK, 1), representations.split(_CHUNK), strict=True):
        total = p + answers[:, bank.nearest(r, voters)].float().sum(2)  # (h, b, k)
        p.copy_(total / total.sum(-1, keepdim=True))
    return probabilities


def decide(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label and confidence of every image from one head's probabilities (n, k).

    Warns if a cluster stays empty, with the number found.

    Returns
    -------
    tuple of ndarray
        (n,) int64 labels and (n,) float confidences in [1/k, 1].
    """
    n, k = probabilities.shape
    labels, confidences = np.empty(n, np.int64), np.empty(n, probabilities.dtype)
    for start in range(0, n, _DECIDED):
        part = slice(start, start + _DECIDED)
        labels[part] = probabilities[part].argmax(axis=1)
        confidences[part] = probabilities[part].max(axis=1)
        let_go(probabilities)
    found = len(np.unique(labels))
    if found < k:
        warnings.warn(
            f"Only {found} of n_clusters={k} clusters have an image: the others stayed empty. "
            "A smaller n_clusters or more images would fit better.",
            stacklevel=3,
        )
    return labels, confidences
