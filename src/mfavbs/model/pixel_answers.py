"""From a network trained on pixels to every image's cluster.

In: a network and the views of images.
Out: probabilities and representations as from features; of an epoch, the criterion that judges it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.devices import has_bfloat16
from mfavbs.model.assignment import average_with_neighbours
from mfavbs.model.head_selection import criterion
from mfavbs.model.neighbours import Neighbourhood
from mfavbs.model.pixel_network import PixelNetwork
from mfavbs.model.pixel_views import PixelViews

_VIEWS = 512  # at once


@torch.no_grad()
def assign_pixels(
    network: PixelNetwork,
    views: PixelViews,
    heads: slice = slice(None),
    rows: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """Probabilities of the heads and a representation, averaged over the views of each image.

    As :func:`mfavbs.model.assign`, from the stored views in their own colours.

    Parameters
    ----------
    network
        Left in evaluation mode.
    views
        Of n images.
    heads
        Which heads; all by default.
    rows
        (m,) images to answer; all by default.

    Returns
    -------
    tuple of Tensor
        (h, m, k) probabilities that sum to 1 over k, and (m, d) representations of unit length,
        on the network's device.
    """
    network.eval()
    rows = np.arange(len(views)) if rows is None else rows
    v = views.n_views
    chunks = np.array_split(rows, -(-len(rows) * v // _VIEWS))
    probabilities, representations = [], []
    for chunk in chunks:
        pooled = _represented(network, views, chunk)  # (b v, d)
        p = network.cluster_heads(pooled, heads).softmax(-1)  # (h, b v, k)
        probabilities.append(p.unflatten(1, (-1, v)).mean(2))
        r = F.normalize(pooled, dim=-1).unflatten(0, (-1, v)).mean(1)
        representations.append(F.normalize(r, dim=-1))
    return torch.cat(probabilities, dim=1), torch.cat(representations)


def _represented(network: PixelNetwork, views: PixelViews, image: np.ndarray) -> Tensor:
    """Representations (b v, d) of the stored views of some images."""
    kind, both = network.device.type, network.is_symmetric
    pair = views.stored(image, 2 if both else 1)
    low = has_bfloat16(network.device)
    with torch.autocast(kind, torch.bfloat16, enabled=low, cache_enabled=False):
        halves = network(*pair)  # (b p, d) each
    found = torch.stack(halves if both else halves[:1], dim=1)
    found = found.unflatten(0, (len(image), -1)).flatten(1, 2)[:, : views.n_views]  # (b, v, d)
    # Cosines in bfloat16 would be too coarse for the nearest prototype.
    return found.flatten(0, 1).float()


def judge_heads(
    network: PixelNetwork,
    views: PixelViews,
    embeddings: Tensor,
    rows: np.ndarray,
    balance_weight: float,
    averaged: bool,
) -> Tensor:
    """The criterion of every head, (h,), as :func:`mfavbs.model.choose_head` has it.

    Parameters
    ----------
    network, views
        Its answers are judged by whether its representations and the frozen features foretell them.
    embeddings
        (n, d) of unit length, of the frozen features.
    rows
        (m,) images that are looked at.
    balance_weight
        Of the balance loss beside the ridge error.
    averaged
        Whether answers are averaged over the nearest in the learned space first.
    """
    probabilities, representations = assign_pixels(network, views, rows=rows)
    if averaged:
        probabilities = average_with_neighbours(
            probabilities, representations, probabilities.half(), Neighbourhood(representations)
        )
    chosen = embeddings[torch.from_numpy(rows).to(embeddings.device)]
    # By the frozen features alone no answer is as good as their own: rsscn7's gain was refused.
    return criterion(probabilities, torch.cat([representations, chosen], dim=1), balance_weight)
