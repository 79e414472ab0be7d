"""In: an array. Out: whether it holds images, features or paths; n candidate images (h, w[, c])."""

import os

import numpy as np

from mfavbs.errors import SourceError
from mfavbs.images.candidates import Images


class Array(Images):
    """Images that are in memory already, or in a memory map."""

    kind = "array"

    def __init__(self, pixels: np.ndarray) -> None:
        if pixels.ndim not in (3, 4) or pixels.shape[3:] not in ((), (1,), (3,), (4,)):
            hint = "give features to MFAVBsClustering.fit" if pixels.ndim == 2 else "reshape it"
            if pixels.ndim == 4 and pixels.shape[1] in (1, 3, 4):
                hint = "move the channels last: np.moveaxis(images, 1, -1)"
            raise SourceError(
                f"expected images (n, h, w) or (n, h, w, 1|3|4), got shape {pixels.shape}; {hint}"
            )
        if 0 in pixels.shape:
            raise SourceError(f"expected at least one image and pixel, got shape {pixels.shape}")
        if pixels.dtype != np.uint8:
            expected = "expected uint8 images in 0..255 or float images in 0..1"
            if pixels.dtype.kind != "f":
                raise SourceError(f"{expected}, got {pixels.dtype}; use .astype(np.uint8)")
            low, high = float(pixels.min()), float(pixels.max())
            if not (low >= 0 and high <= 1):  # so written, NaN fails too
                raise SourceError(
                    f"{expected}, got {pixels.dtype} in {low:g}..{high:g}; divide by the largest "
                    "possible value"
                )
        width = len(str(len(pixels) - 1))
        super().__init__("", (f"{row:0{width}d}" for row in range(len(pixels))))
        self._pixels = pixels

    def stat(self, row: int) -> tuple[int, float]:
        return self._pixels[row].nbytes, 0.0

    def read(self, row: int) -> np.ndarray:
        pixels = self._pixels[row]
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
        return np.array(pixels)  # a copy: never a view of a memory map


def is_of_paths(array: np.ndarray) -> bool:
    """Whether an array holds text or paths, and so is a list of paths."""
    return array.dtype.kind in "UT" or (
        array.dtype == object and all(isinstance(item, str | os.PathLike) for item in array.flat)
    )


def is_of_images(array: np.ndarray) -> bool:
    """Whether an array holds images rather than features, by its type and its shape alone.

    - (n, d): features, of any type.
    - (n, h, w) and more: images, if integers; features, if float16, as a feature store has them.
    - float32 and float64 (n, h, w, 1|3|4): images.
    - float32 and float64 (n, v, t, d) and (n, v, d) otherwise: features; but refused where the
      edges are those of a picture.

    Raises
    ------
    SourceError
        It may be either, or is neither; the message has both ways to say which.
    """
    kind, shape = array.dtype.kind, array.shape
    if kind not in "fiub" or array.ndim not in (2, 3, 4):
        raise SourceError(
            f"expected features (n, d), (n, v, d) or (n, v, t, d), or images (n, h, w[, 1|3|4]), "
            f"got {array.dtype} of shape {shape}"
        )
    if array.ndim == 2 or array.dtype == np.float16:
        return False
    if kind != "f":
        return True
    channels_last = array.ndim == 4 and shape[3] in (1, 3, 4)
    if channels_last and _like_a_picture(shape[1:3], 4):
        return True
    channels_first = array.ndim == 4 and shape[1] in (1, 3, 4) and _like_a_picture(shape[2:], 2)
    if channels_last or channels_first or (array.ndim == 3 and _like_a_picture(shape[1:], 4)):
        first = "; move the channels last: np.moveaxis(array, 1, -1)" if channels_first else ""
        raise SourceError(
            f"{array.dtype} of shape {shape} may be images or features. Images: give them as "
            f"uint8, or by open_images(array){first}. Features: give them as float16, "
            "array.astype(np.float16), as a feature store holds them"
        )
    return False


def _like_a_picture(edges: tuple[int, ...], ratio: int) -> bool:
    """Whether two axes may be the edges of a picture; a view's tokens are few, and wide."""
    low, high = min(edges), max(edges)
    return low >= 8 and high <= ratio * low
