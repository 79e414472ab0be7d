"""The views of many images at once, by a few large matrix products, on whatever device.

In: images (h, w, 3) uint8, one after the other, and the numbers of their views
(:class:`mfavbs.images.drawing.Drawn`). Out: views (n, v, 3, s, s) uint8, those of
:class:`mfavbs.images.Views` to within a grey level or two.

All sums are of integers, or of fractions of 2048, that the number type holds: so they are the same
in any order, and an image's views do not depend on which others are drawn with them.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.devices import on_device
from mfavbs.images.framing import Framing

_SPAN = 6
_ROWS, _COLUMNS = slice(0, _SPAN), slice(_SPAN, 2 * _SPAN)
_FLIP, _TURN = 12, slice(13, 15)
_MATRIX, _OF_MEAN, _AFFINE = slice(15, 24), slice(24, 33), slice(33, 39)
_IN_PLACE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_N_NUMBERS = 39

ELEMENTS = 64_000_000  # of the largest arrays, for the images that are drawn together
_STEPS = 2048  # a resampling weight is a whole number of them: all that float16 can tell near 1
_FINER = 2**14  # to which weights are rounded before they are summed


def _cubic(x: Tensor) -> Tensor:  # Pillow's, and torch's where it antialiases
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (x - 1) * (x - 2) * (x - 2)
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_(min=0)


FILTERS = {"bicubic": _cubic, "bilinear": _triangle}


def elements(height: int, width: int, n_views: int, s: int) -> int:
    """About how many numbers the largest arrays have for one image."""
    return n_views * s * (height + width) + 3 * height * width


def stacked(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views (v, 3, s, s) that are drawn already, as one image (v s, s, 3) and its numbers."""
    v, _, s, _ = views.shape
    numbers = np.zeros((v, _N_NUMBERS), np.float32)
    numbers[:, _ROWS] = [(i * s, s, i * s, (i + 1) * s, s, 0) for i in range(v)]
    numbers[:, _COLUMNS] = (0, s, 0, s, s, 0)
    numbers[:, _MATRIX] = np.eye(3).ravel()
    numbers[:, _AFFINE] = _IN_PLACE
    return views.transpose(0, 2, 3, 1).reshape(v * s, s, 3), numbers


def views_of_bases(
    pixels: Tensor,
    sizes: Sequence[tuple[int, int]],
    numbers: np.ndarray,
    s: int,
    framing: Framing,
    most: int = ELEMENTS,
) -> Tensor:
    """Draw the views of some images.

    Parameters
    ----------
    pixels
        uint8, flat: the images, (h, w, 3) each, one after the other, on the device.
    sizes
        (h, w) of each.
    numbers
        (n, v, m) float32: what was drawn for each view.
    s
        Edge of a view.
    framing
        Its interpolation and what is filled.
    most
        How many numbers the largest arrays may have: the less, the fewer images at a time and the
        less memory; the views stay the same.

    Returns
    -------
    Tensor
        uint8 (n, v, 3, s, s), on the device.
    """
    n, v = numbers.shape[:2]
    views = torch.empty((n, v, 3, s, s), dtype=torch.uint8, device=pixels.device)
    starts = np.concatenate([[0], np.cumsum([h * w for h, w in sizes])])
    for rows in _groups(sizes, v, s, most):
        places = starts[rows]
        drawn = _drawn(pixels, places, [sizes[row] for row in rows], numbers[rows], s, framing)
        views[on_device(np.array(rows), pixels.device)] = drawn
    return views


def _groups(sizes: Sequence[tuple[int, int]], v: int, s: int, most: int) -> Iterator[list[int]]:
    """Numbers of images that are drawn together: of like sizes, for all get the largest's room."""
    group: list[int] = []
    height = width = 0
    for row in sorted(range(len(sizes)), key=lambda row: sizes[row]):
        height, width = max(height, sizes[row][0]), max(width, sizes[row][1])
        if group and (len(group) + 1) * elements(height, width, v, s) > most:
            yield group
            group, (height, width) = [], sizes[row]
        group.append(row)
    if group:
        yield group


def _drawn(
    pixels: Tensor,
    places: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    numbers: np.ndarray,
    s: int,
    framing: Framing,
) -> Tensor:
    """Views (n, v, 3, s, s) uint8; n images as large as they are alike."""
    n, v = numbers.shape[:2]
    table = on_device(numbers, pixels.device)  # (n, v, m)
    canvas = _canvas(pixels, places, sizes)  # (n, 3, h, w)
    views = _resampled(canvas, table, s, framing.interpolation)  # (n v, 3, s, s)
    table = table.flatten(0, 1)  # (n v, m)
    views = _coloured(views, table)
    if (numbers[..., [4, _SPAN + 4]] < s).any():
        views = _filled(views, table, framing.fill)
    if (numbers[..., _AFFINE] != _IN_PLACE).any():
        views = _shifted(views, table)
    if numbers[..., _TURN].any():
        views = _turned(views, table)
    return views.unflatten(0, (n, v)).to(torch.uint8)


def _canvas(pixels: Tensor, places: np.ndarray, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Images of unlike sizes in the room of the largest, (n, 3, h, w).

    What is over there has the weight zero.
    """
    height, width = np.max(sizes, axis=0).tolist()
    table = on_device(np.column_stack([places, np.array(sizes)]), pixels.device)  # (n, 3) int64
    start, h, w = table[:, :, None, None].unbind(1)  # (n, 1, 1) each
    y = torch.arange(height, device=pixels.device)[:, None]
    x = torch.arange(width, device=pixels.device)
    place = start + torch.minimum(y, h - 1) * w + torch.minimum(x, w - 1)  # (n, h, w)
    canvas = pixels.view(-1, 3)[place]  # (n, h, w, 3)
    return canvas.permute(0, 3, 1, 2).to(_number_type(pixels.device)).contiguous()


def _number_type(device: torch.device) -> torch.dtype:
    """Of the products; float16 takes part in them as it is, and they are summed in float32."""
    return torch.float16 if device.type == "cuda" else torch.float32


def _resampled(canvas: Tensor, table: Tensor, s: int, interpolation: str) -> Tensor:
    """Crops of the images, flipped where they are, as Pillow resamples: across, then down."""
    n, _, height, width = canvas.shape
    v = table.shape[1]
    flip = table[..., _FLIP] > 0
    across = _weights(table[..., _COLUMNS], flip, width, s, interpolation)  # (n, v, s, w)
    down = _weights(table[..., _ROWS], torch.zeros_like(flip), height, s, interpolation)
    across, down = across.to(canvas.dtype), down.to(canvas.dtype)
    with _summed_in_float32(canvas.device):
        half = canvas.flatten(1, 2) @ across.flatten(1, 2).mT  # (n, 3 h, v s)
        half = half.round_().clamp_(0, 255)
        half = half.view(n, 3, height, v, s).permute(0, 3, 2, 1, 4)  # (n, v, h, 3, s)
        views = down.flatten(0, 1) @ half.reshape(n * v, height, 3 * s)  # (n v, s, 3 s)
    views = views.float().round_().clamp_(0, 255)
    return views.view(n * v, s, 3, s).transpose(1, 2)  # (n v, 3, s, s)


@contextlib.contextmanager
def _summed_in_float32(device: torch.device) -> Iterator[None]:
    """Products of float16 whose parts, too, are added up in float32."""
    if device.type != "cuda":
        yield
        return
    settings = torch.backends.cuda.matmul
    before = settings.allow_fp16_reduced_precision_reduction
    settings.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_fp16_reduced_precision_reduction = before


def _weights(spans: Tensor, flip: Tensor, edge: int, s: int, interpolation: str) -> Tensor:
    """What each pixel of an edge gives to each of a view: (n, v, s, edge), rows sum to about 1.

    Parameters
    ----------
    spans, flip
        (n, v, 6) and (n, v).
    edge, s
        Pixels of the image's edge, and of the view's.
    interpolation
        One of ``FILTERS``.
    """
    start, length, low, high, size, at = spans[..., None, None, :].unbind(-1)  # (n, v, 1, 1) each
    i = torch.arange(s, device=spans.device)[:, None] - at  # (n, v, s, 1), of the crop
    i = torch.where(flip[..., None, None], size - 1 - i, i)
    scale = length / size
    centre = start + (i + 0.5) * scale
    x = torch.arange(edge, device=spans.device) + 0.5  # (edge,)
    filtered = FILTERS.get(interpolation, _cubic)  # of another, views come drawn
    weights = filtered((x - centre) / scale.clamp(min=1))  # (n, v, s, edge)
    weights = weights * ((x > low) & (x < high) & (i >= 0) & (i < size))
    weights = (weights * _FINER).round_()
    total = weights.sum(-1, keepdim=True).clamp_(min=1)
    return (weights / total).mul_(_STEPS).round_().div_(_STEPS)


def _coloured(views: Tensor, table: Tensor) -> Tensor:
    """Each view by its own map of RGB, (b, 3, s, s) float32."""
    sums = views.to(torch.int32).sum((2, 3), dtype=torch.int64)  # what is to be filled is 0
    pixels = table[:, 4] * table[:, _SPAN + 4]  # (b,)
    mean = sums.float() / pixels[:, None]  # (b, 3)
    matrix = table[:, _MATRIX].unflatten(1, (3, 3))
    offset = _mapped(table[:, _OF_MEAN].unflatten(1, (3, 3)), mean[..., None, None])
    return (_mapped(matrix, views) + offset).round_().clamp_(0, 255)


def _mapped(matrix: Tensor, x: Tensor) -> Tensor:
    """(b, 3, 3) of (b, 3, h, w), colour by colour: a product's sums would depend on its size."""
    first, second, third = matrix[..., None, None].unbind(2)  # (b, 3, 1, 1) each
    return first * x[:, :1] + second * x[:, 1:2] + third * x[:, 2:]


def _filled(views: Tensor, table: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """What no pixel of the image fills, in the colour for it."""
    at = torch.arange(views.shape[-1], device=views.device)
    rows, columns = (
        (at >= table[:, span][:, 5:]) & (at < table[:, span][:, 4:5] + table[:, span][:, 5:])
        for span in (_ROWS, _COLUMNS)
    )  # (b, s) each
    inside = (rows[:, :, None] & columns[:, None])[:, None]  # (b, 1, s, s)
    ground = torch.tensor(fill, dtype=views.dtype, device=views.device)[:, None, None]
    return torch.where(inside, views, ground)


def _shifted(views: Tensor, table: Tensor) -> Tensor:
    theta = table[:, _AFFINE].unflatten(1, (2, 3))
    grid = F.affine_grid(theta, list(views.shape), align_corners=False)
    moved = F.grid_sample(views, grid, "bilinear", padding_mode="border", align_corners=False)
    return moved.round_().clamp_(0, 255)


def _turned(views: Tensor, table: Tensor) -> Tensor:
    quarters, upside_down = table[:, _TURN, None, None, None].unbind(1)
    turned = views
    for quarter in range(1, 4):
        turned = torch.where(quarters == quarter, views.rot90(quarter, (-2, -1)), turned)
    return torch.where(upside_down > 0, turned.flip(-2), turned)
