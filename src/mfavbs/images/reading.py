"""In: a source and a row of it. Out: that image decoded, its content's hash, and notes on it.

One way for all who read images, so that what decides the pixels is the same for each of them.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError
from mfavbs.images.candidates import Images
from mfavbs.images.decoding import content_hash, decode, values_of
from mfavbs.images.finding import suffix_of
from mfavbs.images.grey_levels import Range
from mfavbs.images.memory import IMAGE_MEMORY, MB
from mfavbs.images.raw import is_raw

SAMPLE = 64  # images that `--range auto` looks at
# Never of more than 8 bits: among photographs the few that are would be missed.
_NARROW = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".webp", ".bmp", ".dib", ".pbm")
_VALUES = 10_000  # of each
# Beyond these percentiles lie dead and hot pixels, not the picture.
_PERCENTILES = (0.1, 99.9)


class Picture(NamedTuple):
    """One decoded image.

    Attributes
    ----------
    image
        Upright, mode RGB.
    hash
        Of the undecoded content, from :func:`content_hash`.
    note
        What was wrong with it and did not keep it from being read; empty where nothing was.
    """

    image: Image.Image
    hash: str
    note: str


def read_image(
    images: Images,
    row: int,
    at_least: int | None = None,
    *,
    value_range: Range | None = None,
    image_memory: int = IMAGE_MEMORY,
) -> Picture:
    """Read and decode one image of a source.

    Parameters
    ----------
    images, row
        From :func:`open_images`, and which one of them.
    at_least, value_range, image_memory
        As in :func:`decode`.

    Raises
    ------
    ImageError
        It cannot be had, or decoded.
    """
    content = read_content(images, row, image_memory)
    return picture_of(
        content,
        images.keys[row],
        at_least,
        value_range=value_range,
        image_memory=image_memory,
    )


def picture_of(
    content: bytes | np.ndarray,
    name: str,
    at_least: int | None = None,
    *,
    value_range: Range | None = None,
    image_memory: int = IMAGE_MEMORY,
) -> Picture:
    """Decode what :func:`read_content` has read; several threads may do so at once.

    Parameters
    ----------
    content, name
        Of one image, and its key.
    at_least, value_range, image_memory
        As in :func:`decode`.

    Raises
    ------
    ImageError
        It cannot be decoded.
    """
    notes: list[str] = []
    image = decode(
        content,
        at_least,
        name=name,
        value_range=value_range,
        image_memory=image_memory,
        notes=notes,
    )
    return Picture(image, content_hash(content), "; ".join(notes))


def measure_range(images: Images, image_memory: int = IMAGE_MEMORY) -> Range | None:
    """Range of the grey values in a sample of a source; None where none has more than 8 bits.

    Parameters
    ----------
    images
        From :func:`open_images`. Up to 64 of those that may have more than 8 bits by their names,
        evenly spaced, are decoded.
    image_memory
        As in :func:`decode`.

    Returns
    -------
    (low, high) or None
        The 0.1 and the 99.9 percentile of the values of all that are wider than 8 bits.
    """
    samples = []
    rows = [row for row, key in enumerate(images.keys) if _may_be_wide(key)]
    places = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).round().astype(int)
    for row in (rows[place] for place in places):
        try:
            values = values_of(read_content(images, row, image_memory), _VALUES, image_memory)
        except ImageError:
            continue  # it will stand in failures.csv
        if values is not None and values.size:
            samples.append(values)
    if not samples:
        return None
    low, high = np.percentile(np.concatenate(samples), _PERCENTILES).tolist()
    return low, high if high > low else low + 1


def _may_be_wide(name: str) -> bool:
    """Whether a file can have more than 8 bits by its name; LibRaw develops RAW files to 8."""
    return suffix_of(name) not in _NARROW and not is_raw(name)


def read_content(images: Images, row: int, image_memory: int = IMAGE_MEMORY) -> bytes | np.ndarray:
    """Undecoded content of one image; `ImageError` where it cannot be had or is too large."""
    size, _ = images.stat(row)
    if size > image_memory * MB:
        raise ImageError(
            f"too large: a file of {size / MB:,.0f} MB; {image_memory:,} MB are allowed for one "
            "image (--image-memory)"
        )
    return images.read(row)
