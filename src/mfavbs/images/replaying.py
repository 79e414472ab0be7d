"""The crops of stored views once more, on other pixels of the same images and in fresh colours.

In: how a feature store's views were drawn, and the images' hashes. Out: the numbers that
:func:`mfavbs.images.views_of_bases` draws them by, (n, v, m).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mfavbs.errors import SourceError
from mfavbs.images.augmenting import AUGMENTS, Ranges
from mfavbs.images.batched import MATRIX, OF_MEAN
from mfavbs.images.drawing import FROM_YIQ, TO_GREY, YIQ, Span
from mfavbs.images.views import Views

_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


def replay_crops(
    views: Views,
    contents: Sequence[str],
    edge: int,
    image_size: int,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> np.ndarray:
    """What each view shows of each image, where the image is a square of ``edge`` pixels.

    Drawn by them, a view shows what ``views`` shows, of fewer or more pixels, in its colours.

    Parameters
    ----------
    views
        As those of the features were drawn; its own edge is that of the encoder.
    contents
        (n,) hashes of the images, as in a store's manifest.
    edge
        Of the squares that the images, whole, are squashed to: S.
    image_size
        Edge s of the views to be drawn of them, in pixels.
    sizes
        (n,) width and height of each image before that; by default they were such squares.

    Returns
    -------
    ndarray
        float32 (n, v, m).

    Raises
    ------
    SourceError
        There are not as many sizes as hashes.
    """
    sizes = [(edge, edge)] * len(contents) if sizes is None else sizes
    if len(sizes) != len(contents):
        raise SourceError(f"expected a size for each of {len(contents)} images, got {len(sizes)}")
    drawn = (_numbers(views, *image, edge, image_size) for image in zip(contents, sizes))
    return np.array(list(drawn), np.float32)


def _numbers(
    views: Views, content: str, size: tuple[int, int], edge: int, image_size: int
) -> list[list[float]]:
    factor = views.reduction(size)
    width, height = size[0] / factor, size[1] / factor
    drawn = views.drawn((math.ceil(width), math.ceil(height)), (width, height), content)
    larger = image_size / views.image_size
    return [
        view._replace(
            rows=_scaled(view.rows, edge / height, edge, larger, image_size),
            columns=_scaled(view.columns, edge / width, edge, larger, image_size),
        ).numbers
        for view in drawn
    ]


def _scaled(span: Span, by: float, edge: int, larger: float, image_size: int) -> Span:
    """The same part of an image with ``by`` times as many pixels, in a view of another edge."""
    size = max(1, round(span.size * larger))
    return Span(
        span.start * by,
        span.length * by,
        math.floor(span.low * by),
        min(edge, math.ceil(span.high * by)),
        size,
        (image_size - size) // 2,
    )


def recolour(numbers: np.ndarray, augment: str, generator: torch.Generator) -> np.ndarray:
    """The same crops, flips and turns in colours drawn anew, as :class:`Views` draws them.

    Parameters
    ----------
    numbers
        float32 (..., m), from :func:`replay_crops`.
    augment
        How far they may go, as for :class:`Views`; with ``"none"`` they stay as they are.
    generator
        On the CPU.

    Returns
    -------
    ndarray
        float32 (..., m), another array.
    """
    drawn = numbers.copy()
    if augment == "none":
        return drawn
    ranges, n = AUGMENTS[augment], drawn[..., 0].size
    factors = _factors(n, ranges, generator)
    order = torch.rand(n, 4, generator=generator).argsort(dim=1)
    jitter, grey = torch.rand(2, n, generator=generator, dtype=torch.float64)
    matrix, of_mean = colours(factors, order, jitter < ranges.p_jitter, grey < ranges.p_grey)
    drawn[..., MATRIX] = matrix.numpy().reshape(*drawn.shape[:-1], 9)
    drawn[..., OF_MEAN] = of_mean.numpy().reshape(*drawn.shape[:-1], 9)
    return drawn


def _factors(n: int, ranges: Ranges, generator: torch.Generator) -> Tensor:
    """(n, 4): of brightness, contrast, saturation and hue."""
    low, high = torch.tensor([ranges.jitter] * 3 + [ranges.hue], dtype=torch.float64).T
    return low + (high - low) * torch.rand(n, 4, generator=generator, dtype=torch.float64)


def colours(factors: Tensor, order: Tensor, jitter: Tensor, grey: Tensor) -> tuple[Tensor, Tensor]:
    """ColorJitter's steps of many views as maps of RGB, each as :func:`colour_of` has it.

    Parameters
    ----------
    factors
        (b, 4) float64 of brightness, contrast, saturation and hue.
    order
        (b, 4) numbers of these steps in the order in which each view takes them.
    jitter, grey
        (b,) whether a view takes them at all, and whether it is made grey at last.

    Returns
    -------
    tuple of Tensor
        (b, 3, 3) of a colour, and (b, 3, 3) of the mean colour.
    """
    to_grey = torch.from_numpy(TO_GREY)
    changes = _changes(factors, to_grey)  # (b, 4, 3, 3)
    matrix = torch.eye(3, dtype=torch.float64).expand(len(factors), 3, 3)
    of_mean = torch.zeros_like(matrix)
    for step in order.unbind(1):  # (b,)
        change = changes[torch.arange(len(step)), step]
        towards = torch.where(step == _CONTRAST, 1 - factors[:, _CONTRAST], 0)[:, None, None]
        pivot = to_grey @ (matrix + of_mean)
        matrix, of_mean = change @ matrix, change @ of_mean + towards * pivot
    jitter, grey = jitter[:, None, None], grey[:, None, None]
    same = torch.eye(3, dtype=torch.float64)
    matrix, of_mean = torch.where(jitter, matrix, same), torch.where(jitter, of_mean, 0)
    matrix = torch.where(grey, to_grey @ matrix, matrix)
    return matrix, torch.where(grey, to_grey @ of_mean, of_mean)


def _changes(factors: Tensor, to_grey: Tensor) -> Tensor:
    """What each step makes of a colour, (b, 4, 3, 3); of contrast, without the mean's part."""
    same = torch.eye(3, dtype=factors.dtype)
    times = factors[:, :, None, None] * same  # (b, 4, 3, 3)
    saturation = times[:, _SATURATION] + (1 - factors[:, _SATURATION, None, None]) * to_grey
    cos, sin = torch.cos(2 * math.pi * factors[:, _HUE]), torch.sin(2 * math.pi * factors[:, _HUE])
    turn = torch.zeros_like(saturation)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = cos
    turn[:, 1, 2], turn[:, 2, 1] = sin, -sin
    hue = torch.from_numpy(FROM_YIQ) @ turn @ torch.from_numpy(YIQ)
    return torch.stack([times[:, _BRIGHTNESS], times[:, _CONTRAST], saturation, hue], dim=1)
