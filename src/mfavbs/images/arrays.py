"""In: an array (n, h, w[, 1|3|4]). Out: n candidate images of uint8 (h, w[, c])."""

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
