"""What an image looks like in a thousand bytes: enough to know copies of it, and a poor picture.

In: a decoded image and its content. Out: one value of the type `LOOK`.
"""

import numpy as np
from PIL import Image

from mfavbs.images.formats import identify
from mfavbs.images.raw import is_raw

SMALL = 32
# The width and height of the whole image in pixels are 0 where nothing is known.
LOOK = np.dtype(
    [
        ("grey", "u1", (SMALL, SMALL)),
        ("width", "<u4"),
        ("height", "<u4"),
        ("darkest", "u1"),
        ("brightest", "u1"),
        ("blur", "<f4"),
    ]
)
_EDGE = 128  # pixels of the shorter edge, at least, at which darkness and blur are seen
_ENDS = (0.01, 0.99)  # of the pixels
_BLUR = 9  # pixels averaged over; Crete et al., The blur effect, SPIE 2007, equation 1


def look_of(image: Image.Image, content: bytes | np.ndarray, name: str = "") -> np.ndarray:
    """How an image looks.

    Parameters
    ----------
    image
        Upright, mode RGB; at less than its full size if that suffices for its views.
    content, name
        As in :func:`mfavbs.images.decode`.

    Returns
    -------
    ndarray
        Of the type `LOOK`, without an axis.
    """
    look = np.zeros((), LOOK)
    look["width"], look["height"] = _full_size(image, content, name)
    factor = min(image.size) // _EDGE
    grey = (image.reduce(factor) if factor > 1 else image).convert("L")
    values = np.asarray(grey)
    below = np.cumsum(grey.histogram()) / values.size
    look["darkest"], look["brightest"] = np.searchsorted(below, _ENDS)
    look["blur"] = _blur(values.astype(np.float32))
    look["grey"] = np.asarray(grey.resize((SMALL, SMALL), Image.Resampling.BOX))
    return look


def _full_size(image: Image.Image, content: bytes | np.ndarray, name: str) -> tuple[int, int]:
    if isinstance(content, np.ndarray) or is_raw(name):
        return image.size
    try:
        width, height = identify(content).size
    except Exception:  # of a damaged file: it was decoded nevertheless
        return image.size
    turned = (width < height) != (image.width < image.height)
    return (height, width) if turned else (width, height)


def _blur(grey: np.ndarray) -> float:
    """From 0, sharp, to 1, as blurred as can be; 0 of an image without any differences.

    Of what neighbours differ by, a further blur takes nearly all where an image is sharp, and
    little where it is blurred already. Contrast plays no part in it.
    """
    shares = []
    for lines in (grey, grey.T):  # neighbours below each other, then beside each other
        if len(lines) <= _BLUR:
            continue
        # The mean over 9 pixels differs from the next one by what comes in and what goes out.
        after = np.abs(lines[_BLUR:] - lines[:-_BLUR]) / _BLUR
        before = np.abs(np.diff(lines, axis=0))[_BLUR // 2 :][: len(after)]
        total = float(before.sum())
        if total > 0:
            shares.append(1 - float(np.maximum(before - after, 0).sum()) / total)
    return max(shares, default=0.0)
