"""In: a damaged file's bytes, or what Pillow made of them. Out: what is left of the picture.

Pillow itself has one switch for all of this, ``LOAD_TRUNCATED_IMAGES``; it is one for the whole
process, and says neither that an image was damaged nor how much of it is there.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops, ImageFile

from mfavbs.images import png

_JPEG, _JPEG_END, _JPEG_SCAN, _JPEG_COMMENT = b"\xff\xd8", b"\xff\xd9", 0xDA, 0xFE
_JPEG_ADOBE = 0xEE  # the one application segment that decides colours
_LAST_ROW_FIRST = ("BMP", "DIB")


def mended(content: bytes) -> Iterator[bytes]:
    """Files with the same picture that Pillow may read where it does not read this one.

    First with as much of the rest as can be kept, then without all that is no picture.
    """
    if content.startswith(png.SIGNATURE):
        yield png.essential(content)
    elif content.startswith(_JPEG):
        yield content + _JPEG_END
        yield _jpeg_picture(content) + _JPEG_END
    else:
        yield content


def incomplete(image: Image.Image, content: bytes) -> bool:
    """Whether rows of a loaded image are missing though its decoder had no complaint.

    A PNG may end, whole by all its checksums, after a few rows; the others stay 0.
    """
    if image.format != "PNG":
        return False
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not any(last.tobytes()) and png.rows_present(content) < image.height


def rows_there(image: ImageFile.ImageFile, content: bytes) -> Image.Image | None:
    """The rows that were decoded, of an image that was cut short; None where there are none.

    Of a PNG as many as its data hold; of another format all but those at its end (or, in a bitmap
    that starts with its last row, at its beginning) that are of one colour throughout.
    """
    if vars(image).get("_im", vars(image).get("im")) is None:  # Pillow 11 or later, or earlier
        return None
    tiles, image.tile = image.tile, []  # else Pillow would decode again
    width, height = image.size
    if image.format == "PNG":
        rows = png.rows_present(content)
        return image.crop((0, 0, width, rows)) if rows else None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return None  # ImageChops knows 8 bits only
    interlaced = bool(tiles) and tuple(tiles[0][3] or ())[1:2] == (1,)
    if image.format == "GIF" and interlaced:
        return _of_an_interlaced_gif(image)
    fill = image.getpixel((width - 1, 0 if image.format in _LAST_ROW_FIRST else height - 1))
    flat = Image.new(image.mode, image.size, fill)
    box = ImageChops.difference(image, flat).getbbox(alpha_only=False)
    if box is None:
        return None
    top, bottom = (box[1], height) if image.format in _LAST_ROW_FIRST else (0, box[3])
    return image.crop((0, top, width, bottom))


def _of_an_interlaced_gif(image: Image.Image) -> Image.Image | None:
    indices: np.ndarray = np.asarray(image)  # (h, w)
    odd = indices[1::2]  # these come last
    there = np.flatnonzero((odd != odd[-1:, -1:]).any(axis=1))
    return image.crop((0, 0, image.width, 2 * int(there[-1]) + 2)) if len(there) else None


def _jpeg_picture(content: bytes) -> bytes:
    """Without application segments and comments; as it is from the first scan on."""
    kept, at = [_JPEG], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            break
        application = 0xE0 <= marker <= 0xEF and marker != _JPEG_ADOBE
        if not application and marker != _JPEG_COMMENT:
            kept.append(content[at : at + 2 + length])
        at += 2 + length
    return b"".join(kept) + content[at:]
