"""In: a grey image of more than 8 bits. Out: grey of 8 bits, by one scale for a whole source.

A scale is a range (low, high) of values: low becomes black, high white, what lies outside either.
By default it is that of the file's own type, so that no image is judged by its own brightest pixel.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError, SourceError

Range = tuple[float, float]
WIDE = ("I", "F")  # Pillow's modes of 32 bits; "I;16" and its kin of 16
_BLOCK = 1 << 20  # pixels converted at a time: 81 megapixels at once take a gigabyte
_FEW = 16  # grey levels of 256; with fewer than these, little of a picture is to be seen
_CLIPPED = 0.5  # of the pixels; with more than these out of the range likewise
_TIFF_PHOTOMETRIC, _TIFF_BITS, _TIFF_SAMPLE_FORMAT = 262, 258, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


def is_wide(image: Image.Image) -> bool:
    """Whether an image has more grey levels than 256."""
    return image.mode in WIDE or image.mode.startswith("I;16")


def range_of_type(image: Image.Image) -> Range:
    """Range of the values that the type of a file can hold; (high, low) where 0 is white.

    Integers: all that fit in their bits. Floats: 0 to 1. Has to be asked before anything is done
    with the image that loses its TIFF tags.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if image.mode == "F":
        low, high = 0.0, 1.0
    elif tags.get(_TIFF_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    else:
        low, high = 0.0, 2.0**bits - 1
    return (high, low) if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else (low, high)


def to_grey(
    image: Image.Image, of_type: Range, wanted: Range | None, notes: list[str]
) -> Image.Image:
    """Mode L from a wide image.

    Parameters
    ----------
    image
        Mode I;16, I or F.
    of_type
        From :func:`range_of_type`.
    wanted
        Values (low, high) that become 0 and 255; by default ``of_type``.
    notes
        Gets a line where the range leaves little to be seen.

    Raises
    ------
    ImageError
        No value is finite.
    """
    low, high = wanted or of_type
    if wanted and of_type[0] > of_type[1]:
        low, high = high, low
    grey = Image.new("L", image.size)
    least, most, n_outside = np.inf, -np.inf, 0
    for top, values in _bands(image, of_type):
        finite = values[np.isfinite(values)]
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
        scaled = np.nan_to_num((values - low) * (255 / (high - low)), nan=0)
        n_outside += int(np.count_nonzero((scaled < 0) | (scaled > 255)))
        grey.paste(Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8)), (0, top))
    if least > most:
        raise ImageError("no finite pixel value")
    used = np.flatnonzero(grey.histogram())
    levels = used[-1] - used[0] + 1
    # Floats have any number of levels between two.
    merged = most - least >= levels if image.mode != "F" else most > least
    lost = n_outside > _CLIPPED * image.width * image.height
    if lost or (levels < _FEW and merged):
        bounds = sorted((low, high))
        notes.append(
            f"values from {least:g} to {most:g} are {'mostly outside' if lost else 'one grey in'} "
            f"the range {bounds[0]:g} to {bounds[1]:g}: give another (--range LOW HIGH or auto)"
        )
    return grey


def sample_values(image: Image.Image, of_type: Range, count: int) -> np.ndarray:
    """Up to ``count`` finite values of a wide image, evenly spaced."""
    step = max(1, image.width * image.height // count)
    kept, start = [], 0
    for _, values in _bands(image, of_type):
        flat = values.ravel()
        kept.append(flat[-start % step :: step])
        start += flat.size
    sample = np.concatenate(kept)
    return sample[np.isfinite(sample)]


def _bands(image: Image.Image, of_type: Range) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, values (rows, w) float64) of a few rows at a time."""
    rows = max(1, _BLOCK // image.width)
    unsigned = image.mode == "I" and max(of_type) > 2**31
    for top in range(0, image.height, rows):
        band = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        yield top, (band.view(np.uint32) if unsigned else band).astype(np.float64)


def recorded_range(record: Mapping[str, Any]) -> Range | None:
    """Range that a store or a run records as ``"range"``; None for that of each file's type."""
    recorded = record.get("range", "type")
    return None if isinstance(recorded, str) else (recorded[0], recorded[1])


def checked_range(value_range: object) -> str | Range:
    """``"type"``, ``"auto"`` or (low, high) as given.

    Raises
    ------
    SourceError
        It is none of these.
    """
    if isinstance(value_range, str):
        if value_range in ("type", "auto"):
            return value_range
    elif isinstance(value_range, tuple | list) and len(value_range) == 2:
        try:
            low, high = map(float, value_range)
        except (TypeError, ValueError):
            low = high = 0.0
        if np.isfinite([low, high]).all() and low < high:
            return low, high
    raise SourceError(
        f"expected for value_range= two grey values LOW < HIGH, auto, or type; got {value_range!r}"
    )
