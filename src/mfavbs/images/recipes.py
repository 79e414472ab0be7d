"""What is done to some of the views after their colours: blur, and the bright parts inverted.

In: views (b, 3, s, s) on whatever device, a recipe's shares for their place in a pair, a generator.
Out: as many views, of which these shares are changed.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.devices import on_device

_SIGMA = (0.1, 2.0)  # pixels; SimCLR's, whatever the edge
_EDGES = 20  # the kernel reaches so far: 1/20 of the edge to each side


class Shares(NamedTuple):
    """Of the views in one place of a pair, those that are blurred and those that are solarised."""

    blur: float
    solarise: float


# Of the first and the second view of a pair. SimCLR, arXiv 2002.05709, and BYOL, 2006.07733, from
# memory and as others built them; VTCC, 2206.12925, as its authors' code, which blurs all of both.
RECIPES = {
    "colours": (Shares(0.0, 0.0), Shares(0.0, 0.0)),
    "simclr": (Shares(0.5, 0.0), Shares(0.5, 0.0)),
    "byol": (Shares(1.0, 0.0), Shares(0.1, 0.2)),
    "vtcc": (Shares(1.0, 0.0), Shares(1.0, 0.2)),
}


def changed_in_part(views: Tensor, shares: Shares, generator: torch.Generator) -> Tensor:
    """Some of the views blurred, by a width of their own, and then some of them solarised.

    Parameters
    ----------
    views
        (b, 3, s, s) uint8; they stay as they are.
    shares
        Each view's probabilities; of what has none nothing is drawn.
    generator
        On the CPU.
    """
    if shares.blur:
        low, high = _SIGMA
        sigma = low + (high - low) * torch.rand(len(views), generator=generator)
        rows = _rows(views, shares.blur, generator)
        views = _changed(views, rows, lambda some: blurred(some, sigma[rows]))
    if shares.solarise:
        views = _changed(views, _rows(views, shares.solarise, generator), solarised)
    return views


def blurred(views: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian about a tenth of the edge wide, the edges mirrored.

    Parameters
    ----------
    views
        (b, 3, s, s), s at least 2; uint8 or floating point, which it stays.
    sigma
        (b,) standard deviations in pixels, above 0.
    """
    reach = max(1, views.shape[-1] // _EDGES)
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (at / sigma.float()[:, None].cpu()) ** 2)
    kernel = on_device(kernel / kernel.sum(dim=1, keepdim=True), views.device)  # (b, 2 reach + 1)
    across = _matrix(kernel, views.shape[-1])[:, None]  # (b, 1, s, s)
    smooth = across.mT @ (views.float() @ across)
    return (smooth if views.is_floating_point() else smooth.round()).to(views.dtype)


def solarised(views: Tensor) -> Tensor:
    """Invert what is brighter than half: of 255 as uint8, of 1 as floating point."""
    return torch.minimum(views, (1 if views.is_floating_point() else 255) - views)


def _matrix(kernel: Tensor, s: int) -> Tensor:
    """What each pixel of an edge gives to each (b, s, s): a product is faster than shifted sums."""
    reach = kernel.shape[1] // 2
    wide = F.pad(torch.eye(s, device=kernel.device), (reach, reach), mode="reflect")
    # Column j takes the pixels that the kernel covers around j: (s, s, 2 reach + 1).
    return torch.einsum("pjt,bt->bpj", wide.unfold(1, 2 * reach + 1, 1), kernel)


def _rows(views: Tensor, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(len(views), generator=generator) < share).nonzero()[:, 0]


def _changed(views: Tensor, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The views, those in these rows as ``change`` makes them."""
    there, result = on_device(rows, views.device), views.clone()
    result[there] = change(views[there])
    return result
