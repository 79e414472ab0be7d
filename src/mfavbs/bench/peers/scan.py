"""SCAN (ECCV 2020, arXiv 2005.12320): a linear head that agrees with its nearest neighbours.

In: features (n, v, t, d); view 0 is the clean one, token 0 the pooled feature.
Out: labels (n,), int.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from mfavbs.bench.peers.classical import pooled_views
from mfavbs.model import balance_loss, mean_view, nearest_neighbours

_CHUNK = 4096  # images labelled at once


def scan_loss(p: Tensor, q: Tensor, entropy_weight: float = 5.0) -> Tensor:
    """Images shall be where their neighbours are, and the clusters equally large (eq. 2).

    Parameters
    ----------
    p, q
        (..., b, k) soft assignments of images and of one neighbour each.
    entropy_weight
        λ, of the entropy of the mean assignment of the images.

    Returns
    -------
    Tensor
        (...,) at the least -λ log k.
    """
    agreement = (p * q).sum(-1).clamp_min(torch.finfo(p.dtype).tiny)  # (..., b)
    return -agreement.log().mean(-1) + entropy_weight * balance_loss(p)


def scan(
    features: np.ndarray,
    k: int,
    seed: int,
    *,
    n_heads: int = 10,
    n_neighbours: int = 20,
    min_epochs: int = 100,
    min_steps: int = 2000,
    batch_size: int = 512,
    learning_rate: float = 5.0,
) -> np.ndarray:
    """Train linear heads on views of images and of their neighbours; the lowest loss answers.

    The settings are those of the authors' code for ImageNet's subsets, where the backbone is
    frozen as it is here: 10 linear heads, SGD with momentum 0.9 at a constant rate of 5, λ = 5,
    100 epochs. The 20 neighbours are those of its smaller sets. Adapted: neighbours are found
    among the means over the views, the best head is looked for after the last epoch only, and
    the label is the arg-max of the mean assignment over the views. Left out: the self-labelling
    step, which fine-tunes the backbone.

    Parameters
    ----------
    features
        (n, v, t, d).
    k
        Clusters.
    seed
        Of the weights, batches, views and neighbours.
    n_heads, n_neighbours
        Heads side by side, and neighbours of an image.
    min_epochs, min_steps
        The training ends when both are reached.
    batch_size, learning_rate
        Of the SGD.

    Returns
    -------
    ndarray
        (n,) labels.
    """
    views = pooled_views(features)  # (n, v, d)
    n, n_views, d = views.shape
    neighbours = nearest_neighbours(mean_view(views[:, :, None]), min(n_neighbours, n - 1))
    n_batches = math.ceil(n / batch_size)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        heads = nn.Linear(d, n_heads * k)

    def assign(x: Tensor) -> Tensor:  # (b, d)
        return heads(x).unflatten(-1, (n_heads, k)).softmax(-1).movedim(1, 0)  # (h, b, k)

    def draw(rows: Tensor) -> Tensor:
        return views[rows, torch.randint(n_views, rows.shape, generator=generator)]

    optimizer = torch.optim.SGD(heads.parameters(), lr=learning_rate, momentum=0.9)
    for _ in range(max(min_epochs, math.ceil(min_steps / n_batches))):
        for rows in torch.randperm(n, generator=generator).tensor_split(n_batches):
            column = torch.randint(neighbours.shape[1], rows.shape, generator=generator)
            near = neighbours[rows, column]
            loss = scan_loss(assign(draw(rows)), assign(draw(near))).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        parts = [
            assign(part.flatten(0, 1)).unflatten(1, part.shape[:2]).mean(2)
            for part in views.split(_CHUNK)
        ]
        p = torch.cat(parts, dim=1)  # (h, n, k)
        # The authors choose with an entropy weight of 1, over all neighbours.
        losses = sum(scan_loss(p, p[:, near], 1.0) for near in neighbours.T)
    return p[torch.as_tensor(losses).argmin()].argmax(-1).numpy()
