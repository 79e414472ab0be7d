"""How an image of any shape becomes a square, as the encoder's weights were trained to see it.

In: an RGB image (h, w). Out: RGB (s, s), equal to what timm and open_clip make of it for
evaluation, within two grey levels.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the command line's help asks for FITS alone
    from PIL.Image import Image

FITS = ("crop", "squash", "pad")


class Framing(NamedTuple):
    """How an image becomes a square.

    Attributes
    ----------
    fit
        ``"crop"``: the shorter edge is resized, the middle is kept. ``"squash"``: each edge is
        resized by itself. ``"pad"``: the longer edge is resized, the rest is filled.
    crop_pct
        The square kept, as a fraction of the resized edge; 1 keeps all of it.
    interpolation
        As Pillow names it: ``"bicubic"``, ``"bilinear"``, ``"lanczos"``, ...
    fill
        Colour of what is filled, 0 to 255.
    """

    fit: str = "crop"
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)


def framed(
    image: "Image", size: int, framing: Framing, edges: tuple[float, float] | None = None
) -> "Image":
    """Make a square of an image.

    Parameters
    ----------
    image
        RGB, of any size.
    size
        Edge of the square in pixels.
    framing
        How.
    edges
        Width and height where ``image`` was reduced to whole pixels; by default its size.
    """
    import PIL.Image

    resampling = PIL.Image.Resampling[framing.interpolation.upper()]
    width, height = edges or image.size
    columns, rows = spans_of(width, height, size, framing)
    # Pillow looks beyond the box where it resamples its border: so this is the whole image
    # resized and cut out, at the cost of the cut alone; a panorama one pixel high need not grow.
    box = (columns[0], rows[0], columns[1], rows[1])
    inner = image.resize((columns[2], rows[2]), resampling, box=box)
    if inner.size == (size, size):
        return inner
    square = PIL.Image.new("RGB", (size, size), framing.fill)
    square.paste(inner, ((size - columns[2]) // 2, (size - rows[2]) // 2))
    return square


def spans_of(
    width: float, height: float, size: int, framing: Framing
) -> list[tuple[float, float, int]]:
    """Of width and height: the part that is kept, from and to in pixels, and its pixels then."""
    resized = _resized(width, height, size, framing)
    return [_span(edge, pixels, size) for edge, pixels in zip((width, height), resized)]


def _resized(width: float, height: float, size: int, framing: Framing) -> tuple[int, int]:
    """Edges of the whole image after resizing, rounded as timm and torchvision round them."""
    edge = math.floor(size / framing.crop_pct)
    if framing.fit == "squash":
        return edge, edge
    if framing.fit == "pad":
        ratio = max(width / edge, height / edge)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    short = min(width, height)
    return int(edge * width / short), int(edge * height / short)


def _span(edge: float, resized: int, size: int) -> tuple[float, float, int]:
    """Of one edge: the part that is kept, from and to in source pixels, and its pixels then."""
    if resized <= size:
        return 0.0, float(edge), resized
    start = round((resized - size) / 2)
    scale = edge / resized
    return start * scale, min((start + size) * scale, edge), size
