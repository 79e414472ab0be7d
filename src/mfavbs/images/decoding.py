"""In: one image's content, bytes or uint8 (h, w[, 1|3|4]). Out: an upright RGB image (h, w, 3).

Whatever is wrong with the content, the answer is an image with a note of what was passed over, or
an `ImageError` with a reason of one line.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from mfavbs.errors import ImageError
from mfavbs.images.damage import incomplete, mended, rows_there
from mfavbs.images.formats import identify
from mfavbs.images.grey_levels import Range, is_wide, range_of_type, sample_values, to_grey
from mfavbs.images.memory import IMAGE_MEMORY, check_content, check_memory
from mfavbs.images.raw import decode_raw, is_raw
from mfavbs.images.transparency import on_paper


def content_hash(content: bytes | np.ndarray) -> str:
    """BLAKE2b of an undecoded image: 32 hexadecimal digits; equal files have equal hashes."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(content, np.ndarray):
        digest.update(f"{content.dtype.str} {content.shape} ".encode())
        content = content.tobytes()
    digest.update(content)
    return digest.hexdigest()


def decode(
    content: bytes | np.ndarray,
    at_least: int | None = None,
    *,
    name: str = "",
    value_range: Range | None = None,
    image_memory: int = IMAGE_MEMORY,
    notes: list[str] | None = None,
) -> Image.Image:
    """Decode one image, turned as its EXIF says, transparency over paper, first frame.

    Parameters
    ----------
    content
        What `Images.read` returned.
    at_least
        Shorter edge in pixels that suffices. A larger JPEG is then decoded at a half, a quarter
        or an eighth of its size, at a fraction of the time; never smaller than this.
    name
        Its key: RAW files of cameras are known by their suffix alone.
    value_range
        Grey values (low, high) that become black and white, in images of one channel and more
        than 8 bits; by default the range of the file's type, floats having 0 to 1. Images of
        8 bits, and colour, which is read at 8 bits, are left as they are.
    image_memory
        Megabytes that decoding may take; more is refused before it is begun.
    notes
        Gets a line for all that was wrong and did not keep the image from being read.

    Returns
    -------
    PIL.Image.Image
        Mode RGB. Of a file that was cut short, the rows that are there, if they are half or more.
        Transparent parts are white, or black where the picture itself is nearly white.

    Raises
    ------
    ImageError
        The content is empty, mostly missing, damaged, too large or no image.
    """
    notes = [] if notes is None else notes
    with _image_errors():
        if isinstance(content, np.ndarray):
            pixels = content[..., 0] if content.shape[2:] == (1,) else content
            return on_paper(Image.fromarray(pixels))
        if is_raw(name):
            return decode_raw(content, image_memory)
        image, of_type = _open(content, at_least, image_memory, notes)
        if is_wide(image):
            image = to_grey(image, of_type, value_range, notes)
        return on_paper(image)


def values_of(
    content: bytes | np.ndarray, count: int, image_memory: int = IMAGE_MEMORY
) -> np.ndarray | None:
    """Up to ``count`` values of a grey image of more than 8 bits, as filed; None for another.

    Raises
    ------
    ImageError
        As in :func:`decode`.
    """
    with _image_errors():
        if isinstance(content, np.ndarray) or not is_wide(identify(content)):
            return None
        image, of_type = _open(content, None, image_memory, [])
        return sample_values(image, of_type, count)


@contextlib.contextmanager
def _image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(str(error)) from error
    except MemoryError as error:
        raise ImageError("too large: no memory is left to decode it") from error
    # Pillow's parsers let through whatever a damaged file makes them run into: SyntaxError,
    # struct.error, ValueError, zlib.error, ...
    except Exception as error:
        reason = _line(error)
        kind = "truncated" if "truncated" in reason.lower() else "damaged"
        raise ImageError(f"{kind}: {reason}") from error


def _line(error: object) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _open(
    content: bytes, at_least: int | None, image_memory: int, notes: list[str]
) -> tuple[Image.Image, Range]:
    """The image as filed but upright, and the range of its type."""
    with warnings.catch_warnings(record=True) as said:
        # Recorded: on the screen they would name no file.
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image: Image.Image = _begin(content, at_least, image_memory)
            of_type = range_of_type(image)
            image.load()
            if incomplete(image, content):
                raise OSError("image file is truncated")
        except (ImageError, UnidentifiedImageError, MemoryError):
            raise
        except Exception as error:
            image, of_type = _what_is_there(content, at_least, image_memory, error, notes)
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception as error:  # a damaged EXIF block does not spoil the pixels
            notes.append(f"damaged EXIF, its orientation is not known: {_line(error)}")
    for text in dict.fromkeys(_line(warning.message) for warning in said):
        notes.append(text)
    return image, of_type


def _begin(content: bytes, at_least: int | None, image_memory: int) -> ImageFile.ImageFile:
    """Read the header; refuse what is empty or takes too much memory."""
    image = identify(content)
    if 0 in image.size:
        raise ImageError(f"no pixels: {image.width} x {image.height}")
    check_content(image, content)
    full = image.size
    if at_least is not None:
        image.draft(None, (at_least, at_least))  # no-op but for JPEG, and HEIC with a thumbnail
    check_memory(image, full, image_memory)
    return image


def _what_is_there(
    content: bytes, at_least: int | None, image_memory: int, fault: Exception, notes: list[str]
) -> tuple[Image.Image, Range]:
    """Read a damaged image without what is no picture, and the rows that are there."""
    image = None
    for candidate in mended(content):
        try:
            image = _begin(candidate, at_least, image_memory)
            of_type = range_of_type(image)
            image.load()
            cut = "truncated" in str(fault) or incomplete(image, content)
            break
        except Exception as error:
            cut, fault = True, fault if image is None else error
    # What a decoder had made when it stopped is still in the image.
    there = image if image is None or not cut else rows_there(image, content)
    if image is None or there is None:
        raise fault
    if there.height * 2 < image.height:
        raise ImageError(f"truncated: {there.height} of {image.height} rows are there")
    missing = image.height - there.height
    notes.append(_line(fault) + (f"; {missing} of {image.height} rows left out" if missing else ""))
    return there, of_type
