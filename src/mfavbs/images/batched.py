"""The views of many images at once, by a few large matrix products, on whatever device.

In: images (h, w, 3) uint8, one after the other, and the numbers of their views
(:class:`mfavbs.images.drawing.Drawn`). Out: views (n, v, 3, s, s) uint8, those of
:class:`mfavbs.images.Views` to within a grey level or two.

All sums are of integers, or of fractions of 2048, that the number type holds: so they are the same
in any order, and an image's views do not depend on which others are drawn with them.
"""

import contextlib
import math
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
MATRIX, OF_MEAN, _AFFINE = slice(15, 24), slice(24, 33), slice(33, 39)
_IN_PLACE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_N_NUMBERS = 39

ELEMENTS = 128_000_000  # of the largest arrays, for the images that are drawn together
_STEPS = 2048  # a resampling weight is a whole number of them: all that float16 can tell near 1
_ALIGNED = 8  # numbers: products of other edges are slower on a GPU
_FINER = 2**14  # to which weights are rounded before they are summed


def _cubic(x: Tensor) -> Tensor:  # Pillow's, and torch's where it antialiases
    far = (2 - x.abs()).clamp_(min=0)
    near = (far - 1).clamp_(min=0)
    return 0.5 * far * far * (far - 1) + near * near * (1 - 2 * near)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_(min=0)


FILTERS = {"bicubic": (_cubic, 2), "bilinear": (_triangle, 1)}  # and how far each reaches


def elements(height: int, width: int, n_views: int, s: int) -> int:
    """About how many numbers the largest arrays have for one image."""
    return n_views * s * (height + width) + 3 * height * width


def stacked(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views (v, 3, s, s) that are drawn already, as one image (v s, s, 3) and its numbers."""
    v, _, s, _ = views.shape
    numbers = np.zeros((v, _N_NUMBERS), np.float32)
    numbers[:, _ROWS] = [(i * s, s, i * s, (i + 1) * s, s, 0) for i in range(v)]
    numbers[:, _COLUMNS] = (0, s, 0, s, s, 0)
    numbers[:, MATRIX] = np.eye(3).ravel()
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
    views = _resampled(canvas, table, numbers, s, framing.interpolation)  # (n v, 3, s, s)
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

    What is over, at least a row and a column, has the weight zero.
    """
    height, width = (np.max(sizes, axis=0) // _ALIGNED * _ALIGNED + _ALIGNED).tolist()
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


def _resampled(
    canvas: Tensor, table: Tensor, numbers: np.ndarray, s: int, interpolation: str
) -> Tensor:
    """Crops of the images, flipped where they are, as Pillow resamples: across, then down."""
    (n, v), height = numbers.shape[:2], canvas.shape[2]
    across = _weights(canvas, table, numbers, _COLUMNS, s, interpolation)  # (n, v, s, w)
    down = _weights(canvas, table, numbers, _ROWS, s, interpolation)  # (n, v, s, h)
    with _summed_in_float32(canvas.device):
        half = canvas.flatten(1, 2) @ across.flatten(1, 2).mT  # (n, 3 h, v s)
        half = half.round_().clamp_(0, 255)
        half = half.view(n, 3, height, v, s).permute(0, 3, 2, 1, 4)  # (n, v, h, 3, s)
        views = down.flatten(0, 1) @ half.reshape(n * v, height, 3 * s)  # (n v, s, 3 s)
    views = views.round_().clamp_(0, 255).view(n * v, s, 3, s)
    return views.transpose(1, 2).float()  # (n v, 3, s, s)


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


def _weights(
    canvas: Tensor, table: Tensor, numbers: np.ndarray, span: slice, s: int, interpolation: str
) -> Tensor:
    """What each pixel of an edge gives to each of a view: (n, v, s, edge), rows sum to about 1.

    Parameters
    ----------
    canvas
        (n, 3, h, w); the weights are of its number type.
    table, numbers
        (n, v, m) on the device, and here.
    span
        ``_ROWS`` or ``_COLUMNS``.
    s
        Edge of a view.
    interpolation
        One of ``FILTERS``.
    """
    filtered, reach = FILTERS.get(interpolation, FILTERS["bicubic"])  # of another, views come drawn
    start, length, low, high, size, at = table[:, :, None, None, span].unbind(-1)  # (n, v, 1, 1)
    i = torch.arange(s, device=table.device)[:, None] - at  # (n, v, s, 1), of the crop
    if span == _COLUMNS:
        i = torch.where(table[:, :, _FLIP, None, None] > 0, size - 1 - i, i)
    scale = length / size
    centre, wide = start + (i + 0.5) * scale, scale.clamp(min=1)
    # Of the few pixels within the filter's reach:
    scales = numbers[..., span][..., 1] / numbers[..., span][..., 4]
    taps = math.ceil(2 * reach * max(1.0, float(scales.max()))) + 1
    x = (centre - reach * wide - 0.5).ceil() + torch.arange(taps, device=table.device)
    inside = (x >= low) & (x < high) & (i >= 0) & (i < size)
    weights = filtered((x + 0.5 - centre) / wide) * inside  # (n, v, s, taps)
    weights = (weights * _FINER).round_()
    total = weights.sum(-1, keepdim=True).clamp_(min=1)
    weights = (weights / total).mul_(_STEPS).round_().div_(_STEPS)
    edge = canvas.shape[2] if span == _ROWS else canvas.shape[3]
    place = torch.where(inside, x, edge - 1).long()  # the last belongs to no image
    dense = canvas.new_zeros((*place.shape[:3], edge))
    return dense.scatter_(-1, place, weights.to(canvas.dtype))


def _coloured(views: Tensor, table: Tensor) -> Tensor:
    """Each view by its own map of RGB, (b, 3, s, s) float32."""
    sums = views.to(torch.int32).sum((2, 3), dtype=torch.int32)  # what is to be filled is 0
    pixels = table[:, 4] * table[:, _SPAN + 4]  # (b,)
    mean = sums / pixels[:, None]  # (b, 3)
    nothing = torch.zeros_like(mean)[..., None, None]
    offset = _mapped(table[:, OF_MEAN], mean[..., None, None], nothing)  # (b, 3, 1, 1)
    return _mapped(table[:, MATRIX], views, offset).round_().clamp_(0, 255)


def _mapped(matrix: Tensor, x: Tensor, offset: Tensor) -> Tensor:
    """(b, 9) of (b, 3, h, w), colour by colour: a product's sums would depend on its size."""
    first, second, third = matrix.view(-1, 3, 3, 1, 1).unbind(2)  # (b, 3, 1, 1) each
    mapped = torch.addcmul(offset, first, x[:, :1])
    return mapped.addcmul_(second, x[:, 1:2]).addcmul_(third, x[:, 2:])


def _filled(views: Tensor, table: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """What no pixel of the image fills, in the colour for it."""
    at = torch.arange(views.shape[-1], device=views.device)
    rows, columns = (
        (at >= table[:, span][:, 5:]) & (at < table[:, span][:, 4:5] + table[:, span][:, 5:])
        for span in (_ROWS, _COLUMNS)
    )  # (b, s) each
    inside = (rows[:, :, None] & columns[:, None])[:, None]  # (b, 1, s, s)
    ground = on_device(np.array(fill, np.float32), views.device)[:, None, None]
    return torch.where(inside, views, ground)


def _shifted(views: Tensor, table: Tensor) -> Tensor:
    theta = table[:, _AFFINE].unflatten(1, (2, 3))
    grid = F.affine_grid(theta, list(views.shape), align_corners=False)
    middle = 1 - 1 / views.shape[-1]  # of the outermost pixels: MPS has no padding_mode="border"
    moved = F.grid_sample(views, grid.clamp(-middle, middle), align_corners=False)
    return moved.round_().clamp_(0, 255)


def _turned(views: Tensor, table: Tensor) -> Tensor:
    quarters, upside_down = table[:, _TURN, None, None, None].unbind(1)
    turned = views
    for quarter in range(1, 4):
        turned = torch.where(quarters == quarter, views.rot90(quarter, (-2, -1)), turned)
    return torch.where(upside_down > 0, turned.flip(-2), turned)
