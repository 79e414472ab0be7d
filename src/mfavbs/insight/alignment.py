"""How well two pictures match where one shows a part of the other.

In: thumbnails (n, 32, 32), pairs of rows (p, 2). Out: correlations (p, 2), of all, of detail.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Shares of the edges that are cut off one picture to find the other in it: a crop, a caption.
_CUTS = (0.0, 0.05, 0.1)
_CUTS_BELOW = (*_CUTS, 0.15, 0.2)
_MOST_ACROSS, _MOST_DOWN = 0.15, 0.2
_STEPS = (0.03, 0.015, 0.008)  # by which the best cuts are improved
_LARGEST = 0.25
_WORTH = 0.7  # correlation from which on that is done
_COARSE = 16  # pixels at which all cuts are tried
_IMAGES, _PAIRS = 256, 1_024  # at once


def match(greys: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Correlations of pairs of thumbnails, where one is laid over the other at its best.

    All of one picture is looked for in the other: off each of its edges up to a fifth is cut.
    Brightness and contrast do not matter, and colour is not seen.

    Parameters
    ----------
    greys
        (n, 32, 32) uint8.
    pairs
        (p, 2) rows.

    Returns
    -------
    ndarray
        (p, 2) float32 in [-1, 1]: of the pictures at 16 pixels, and of their detail, less than 5
        pixels of 32 wide; detail is 0 where the first is below 0.7. A picture without contrast
        matches none.
    """
    found = np.zeros((len(pairs), 2), np.float32)
    if not len(pairs):
        return found
    forward = _coarse(greys, pairs)  # the second in a part of the first
    backward = _coarse(greys, pairs[:, ::-1])
    turned = (backward[0] > forward[0])[:, None]
    # (p, 2): of which picture a part is the whole of the other.
    ordered = np.where(turned.numpy(), pairs[:, ::-1], pairs)
    best = torch.where(turned[:, 0], backward[0], forward[0])
    cuts = torch.where(turned, backward[1], forward[1])
    found[:, 0] = best.numpy()
    worth = np.flatnonzero(found[:, 0] >= _WORTH)
    for start in range(0, len(worth), _PAIRS):
        rows = worth[start : start + _PAIRS]
        of, other = (_pictures(greys, side) for side in ordered[rows].T)
        better, detail = _refined(of, other, cuts[rows], best[rows])
        found[rows] = torch.stack([better, detail], dim=1).numpy()
    return found


def thumbnail_directions(greys: np.ndarray) -> Tensor:
    """Thumbnails as unit vectors (n, 256), whose products are correlations."""
    return _unit(_halved(torch.from_numpy(greys).float()))


def _pictures(greys: np.ndarray, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(greys[rows]).float()


def _coarse(greys: np.ndarray, pairs: np.ndarray) -> tuple[Tensor, Tensor]:
    """Best correlation (p,) of the second of a pair with a part of the first; cuts (p, 4)."""
    size = greys.shape[-1]
    across = [(a, b) for a in _CUTS for b in _CUTS if a + b <= _MOST_ACROSS]
    down = [(a, b) for a in _CUTS for b in _CUTS_BELOW if a + b <= _MOST_DOWN]
    left_right = torch.stack([_averaging(size, *cut) for cut in across])  # (x, 16, 32)
    top_bottom = torch.stack([_averaging(size, *cut) for cut in down])  # (y, 16, 32)
    all_cuts = torch.tensor([(*x, *y) for y in down for x in across])
    best, cuts = torch.zeros(len(pairs)), torch.zeros(len(pairs), 4)
    order = np.argsort(pairs[:, 0], kind="stable")  # the parts of an image are made once
    first = pairs[order, 0]
    images = np.unique(first)
    for some in np.array_split(images, -(-len(images) // _IMAGES)):
        pictures = _pictures(greys, some)
        parts = torch.einsum("yas,nst,xbt->nyxab", top_bottom, pictures, left_right)
        parts = _unit(parts.flatten(0, 2)).unflatten(0, (len(some), len(all_cuts)))
        low, high = np.searchsorted(first, [some[0], some[-1] + 1])
        for rows in np.array_split(order[low:high], -(-(high - low) // _PAIRS)):
            place = np.searchsorted(some, pairs[rows, 0])
            other = _unit(_halved(_pictures(greys, pairs[rows, 1])))
            products = (parts[place] @ other[:, :, None])[..., 0]  # (r, cuts)
            best[rows], at = products.max(1)
            cuts[rows] = all_cuts[at]
    return best, cuts


def _averaging(size: int, before: float, after: float) -> Tensor:
    """(16, size): means over sixteen equal parts of what is left between two cuts."""
    ends = np.linspace(before * size, (1 - after) * size, _COARSE + 1)[:, None]
    covered = np.clip(ends - np.arange(size), 0, 1)  # of each pixel, up to each end
    share = np.diff(covered, axis=0)
    return torch.from_numpy(share / share.sum(1, keepdims=True)).float()


def _refined(of: Tensor, other: Tensor, cuts: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Correlations (r,) after the cuts of ``of`` (r, 32, 32) are moved a little, and of detail."""
    whole = _unit(_halved(other))
    best = (_unit(_halved(_cut(of, cuts))) * whole).sum(1)
    for step in _STEPS:
        for edge in (0, 1, 2, 3, 0, 1, 2, 3):
            for sign in (-1, 1):
                moved = cuts.clone()
                moved[:, edge] = (moved[:, edge] + sign * step).clamp(0, _LARGEST)
                correlation = (_unit(_halved(_cut(of, moved))) * whole).sum(1)
                better = correlation > best
                cuts = torch.where(better[:, None], moved, cuts)
                best = torch.where(better, correlation, best)
    detail = (_unit(_detail(_cut(of, cuts))) * _unit(_detail(other))).sum(1)
    return best, detail


def _cut(pictures: Tensor, cuts: Tensor) -> Tensor:
    """What is left of pictures (r, s, s) without left, right, top and bottom (r, 4), as large."""
    size = pictures.shape[-1]
    middle = (torch.arange(size) + 0.5) / size
    left, right, top, bottom = cuts.T[:, :, None]
    x = 2 * (left + (1 - left - right) * middle) - 1  # (r, s)
    y = 2 * (top + (1 - top - bottom) * middle) - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    found = F.grid_sample(
        pictures[:, None], grid, "bilinear", padding_mode="border", align_corners=False
    )
    return found[:, 0]


def _halved(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures[:, None], 2)[:, 0]


def _detail(pictures: Tensor) -> Tensor:
    """What a picture differs by from its mean over 5 x 5 pixels."""
    around = F.pad(pictures[:, None], (2, 2, 2, 2), mode="replicate")
    return pictures - F.avg_pool2d(around, 5, 1)[:, 0]


def _unit(pictures: Tensor) -> Tensor:
    """(..., s, s) as unit vectors about their mean; of no contrast, nothing."""
    flat = pictures.flatten(-2)
    flat = flat - flat.mean(-1, keepdim=True)
    length = flat.norm(dim=-1, keepdim=True)
    return torch.where(length > 1, flat / length.clamp_min(1), 0)
