"""What a view shows of its image, drawn before a pixel is touched.

In: an image's size and what its views are drawn from. Out: for each view its crop, colour and turn
as plain numbers, which a CPU (:mod:`mfavbs.images.views`) and an accelerator
(:mod:`mfavbs.images.batched`) apply alike.
"""

import hashlib
import math
from random import Random
from typing import NamedTuple

import numpy as np

from mfavbs.images.augmenting import Ranges
from mfavbs.images.framing import Framing, spans_of

CROP_RATIO = (3 / 4, 4 / 3)
_LAID = 1000  # edge of the square that crops are drawn from where images are squashed or padded

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow and torchvision have it
TO_GREY = np.tile(LUMA, (3, 1))
# Rows: luma and two axes of colour at a right angle; a hue is an angle in their plane (YIQ).
YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
FROM_YIQ = np.linalg.inv(YIQ)

_SAME = np.eye(3)
_AS_IT_IS = (_SAME, np.zeros((3, 3)))
_IN_PLACE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Span(NamedTuple):
    """What a view shows along one edge of the image, and where.

    Attributes
    ----------
    start, length
        In the image's pixels.
    low, high
        Pixels of the image that resampling may look at, from and to.
    size, at
        Pixels of the view that it fills, and the first of them.
    """

    start: float
    length: float
    low: int
    high: int
    size: int
    at: int


class Drawn(NamedTuple):
    """One view of one image, applied in this order.

    Attributes
    ----------
    rows, columns
        The crop.
    flip
        Left to right.
    matrix, of_mean
        (3, 3) each: RGB x becomes ``matrix @ x + of_mean @ mean``, mean being that of the crop.
    affine
        (2, 3), of ``affine_grid``: where each place of the view comes from.
    quarters, upside_down
        Quarter turns to the left, and then a flip up to down.
    """

    rows: Span
    columns: Span
    flip: bool = False
    matrix: np.ndarray = _AS_IT_IS[0]
    of_mean: np.ndarray = _AS_IT_IS[1]
    affine: tuple[tuple[float, ...], ...] = _IN_PLACE
    quarters: int = 0
    upside_down: bool = False

    @property
    def coloured(self) -> bool:
        """Whether its colours are not the image's."""
        return self.matrix is not _AS_IT_IS[0]

    @property
    def numbers(self) -> list[float]:
        """All of it in one row, for :mod:`mfavbs.images.batched`."""
        colour = np.concatenate([self.matrix, self.of_mean]).ravel().tolist()
        turns = (self.quarters, self.upside_down)
        return [*self.rows, *self.columns, self.flip, *turns, *colour, *sum(self.affine, ())]


def view_seed(seed: int, content: str, view: int) -> int:
    """Seed of one view of one image, from 0 to 2**64 - 1.

    Parameters
    ----------
    seed
        The run's.
    content
        The image's :func:`content_hash`; its name and row play no part.
    view
        The view's number.
    """
    text = f"{seed}\0{view}\0{content}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def clean(edges: tuple[float, float], size: tuple[int, int], s: int, framing: Framing) -> Drawn:
    """View 0: the image as ``framing`` makes a square of it.

    Parameters
    ----------
    edges
        Width and height, in pixels of the image that is there, of which the last may be a part.
    size
        Its width and height in whole pixels.
    s
        Edge of the view.
    framing
        How.
    """
    spans = [
        Span(start, stop - start, 0, edge, pixels, (s - pixels) // 2)
        for (start, stop, pixels), edge in zip(spans_of(*edges, s, framing), size)
    ]
    return Drawn(spans[1], spans[0])


def draw_simclr(
    height: int, width: int, s: int, framing: Framing, ranges: Ranges, rng: Random
) -> Drawn:
    """A random crop, flipped and coloured, of an image of this height and width.

    Parameters
    ----------
    height, width
        Of the image in pixels.
    s
        Edge of the view.
    framing
        Whether a crop is nearly square, or squashed or padded.
    ranges
        What is drawn from.
    rng
        Drawn from it, in this order: crop, flip, colour, turn.
    """
    rows, columns = _crop(height, width, s, framing, ranges, rng)
    flip = rng.random() < ranges.p_flip
    jitter, grey = rng.random() < ranges.p_jitter, rng.random() < ranges.p_grey
    matrix, of_mean = _AS_IT_IS
    if jitter or grey:
        matrix, of_mean = colour_of(jitter_steps(rng, ranges) if jitter else [], grey)
    drawn = Drawn(rows, columns, flip, matrix, of_mean)
    return turned(drawn, rng) if ranges.turns else drawn


def draw_shift(view: Drawn, ranges: Ranges, rng: Random) -> Drawn:
    """The clean view, turned, moved and scaled a little."""
    turn = math.radians(rng.uniform(*ranges.degrees))
    far = 2 * ranges.translate  # an edge is 2 wide there
    right, down = rng.uniform(-far, far), rng.uniform(-far, far)
    zoom = rng.uniform(*ranges.zoom)
    cos, sin = math.cos(turn) / zoom, math.sin(turn) / zoom
    drawn = view._replace(affine=((cos, -sin, right), (sin, cos, down)))
    return turned(drawn, rng) if ranges.turns else drawn


def turned(drawn: Drawn, rng: Random) -> Drawn:
    """Any of the eight ways to lay a square, each as likely."""
    return drawn._replace(quarters=rng.randrange(4), upside_down=rng.random() < 0.5)


def _crop(
    height: int, width: int, s: int, framing: Framing, ranges: Ranges, rng: Random
) -> tuple[Span, Span]:
    size = [s, s]
    if framing.fit == "crop":
        top, left, rows, columns = random_crop(height, width, rng, ranges.crop)
    else:
        # Of a square laid over the image, so that a banner's crops are banners.
        top, left, rows, columns = random_crop(_LAID, _LAID, rng, ranges.crop)
        top, rows = _part(top, rows, height)
        left, columns = _part(left, columns, width)
        if framing.fit == "pad":
            size = [max(1, round(s * edge / max(rows, columns))) for edge in (rows, columns)]
    return (
        Span(top, rows, top, top + rows, size[0], (s - size[0]) // 2),
        Span(left, columns, left, left + columns, size[1], (s - size[1]) // 2),
    )


def random_crop(
    height: int, width: int, rng: Random, scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height and width, distributed as torchvision's ``RandomResizedCrop`` draws them.

    Torchvision's own draws from the random state of the whole process.
    """
    ratio_low, ratio_high = map(math.log, CROP_RATIO)
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(ratio_low, ratio_high))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(rng.random() * (height - rows + 1))
            return top, int(rng.random() * (width - columns + 1)), rows, columns
    # An image too long for it: the middle, as far as the ratio allows.
    columns = min(width, max(1, round(height * CROP_RATIO[1])))
    rows = min(height, max(1, round(width / CROP_RATIO[0])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _part(start: int, length: int, edge: int) -> tuple[int, int]:
    """Start and length, in pixels of an edge, of what is given in parts of ``_LAID``."""
    pixels = max(1, round(length * edge / _LAID))
    return min(round(start * edge / _LAID), edge - pixels), pixels


def jitter_steps(rng: Random, ranges: Ranges) -> list[tuple[str, float]]:
    """Draw ColorJitter's steps: their order and their factors."""
    names = ("brightness", "contrast", "saturation")
    steps = [(name, rng.uniform(*ranges.jitter)) for name in names]
    steps.append(("hue", rng.uniform(*ranges.hue)))
    return sorted(steps, key=lambda _: rng.random())


def colour_of(steps: list[tuple[str, float]], grey: bool) -> tuple[np.ndarray, np.ndarray]:
    """ColorJitter's steps as one map of RGB: (3, 3) of a colour, and (3, 3) of the mean colour.

    The mean is the view's, which contrast is drawn towards or away from.
    """
    matrix, of_mean = _AS_IT_IS
    for step, factor in steps:
        if step == "contrast":
            pivot = TO_GREY @ (matrix + of_mean)
            matrix, of_mean = factor * matrix, factor * of_mean + (1 - factor) * pivot
            continue
        if step == "brightness":
            change = factor * _SAME
        elif step == "saturation":
            change = factor * _SAME + (1 - factor) * TO_GREY
        else:  # hue, in turns from red towards yellow
            cos, sin = math.cos(2 * math.pi * factor), math.sin(2 * math.pi * factor)
            change = FROM_YIQ @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]) @ YIQ
        matrix, of_mean = change @ matrix, change @ of_mean
    if grey:
        matrix, of_mean = TO_GREY @ matrix, TO_GREY @ of_mean
    return matrix, of_mean
