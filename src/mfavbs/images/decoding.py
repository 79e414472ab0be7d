"""In: one image's content, bytes or uint8 (h, w[, 1|3|4]). Out: an upright RGB image (h, w, 3).

Whatever is wrong with the content, the answer is an `ImageError` with a reason of one line.
"""

import contextlib
import hashlib
import io
import warnings
from functools import cache

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mfavbs.errors import ImageError

# Named, so that no file can reach the rarer parsers (EPS starts Ghostscript, for one).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF")


def content_hash(content: bytes | np.ndarray) -> str:
    """BLAKE2b of an undecoded image: 32 hexadecimal digits; equal files have equal hashes."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(content, np.ndarray):
        digest.update(f"{content.dtype.str} {content.shape} ".encode())
        content = content.tobytes()
    digest.update(content)
    return digest.hexdigest()


def decode(content: bytes | np.ndarray, at_least: int | None = None) -> Image.Image:
    """Decode one image, turned as its EXIF says, transparency over white, first frame.

    Parameters
    ----------
    content
        What `Images.read` returned.
    at_least
        Shorter edge in pixels that suffices. A larger JPEG is then decoded at a half, a quarter
        or an eighth of its size, at a fraction of the time; never smaller than this.

    Returns
    -------
    PIL.Image.Image
        Mode RGB. Values of more than 8 bits are scaled, not clipped.

    Raises
    ------
    ImageError
        The content is empty, truncated, damaged, too large or no image.
    """
    try:
        if isinstance(content, np.ndarray):
            pixels = content[..., 0] if content.shape[2:] == (1,) else content
            image = Image.fromarray(pixels)
        else:
            image = _open(content, at_least)
        if 0 in image.size:
            raise ImageError(f"no pixels: {image.width} x {image.height}")
        return _to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        start = "0 bytes" if not len(content) else f"starts with {bytes(content[:12])!r}"
        raise ImageError(f"not an image Pillow knows ({start})") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {str(error).split(',')[0]}") from error
    # Pillow's parsers let through whatever a damaged file makes them run into: SyntaxError,
    # struct.error, ValueError, zlib.error, MemoryError, ...
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        kind = "truncated" if "truncated" in reason.lower() else "damaged"
        raise ImageError(f"{kind}: {reason or type(error).__name__}") from error


@cache
def _formats() -> list[str]:
    Image.init()  # AVIF is not in every Pillow
    return [name for name in FORMATS if name in Image.OPEN]


def _open(content: bytes, at_least: int | None) -> Image.Image:
    with warnings.catch_warnings():
        # Between one and two times MAX_IMAGE_PIXELS Pillow only warns: such an image is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=_formats())
        if at_least is not None:
            image.draft(None, (at_least, at_least))  # no-op but for JPEG
        image.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block does not spoil the pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _grey(np.asarray(image), 0, 65535)
    elif image.mode in ("I", "F"):
        image = _wide(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide(values: np.ndarray) -> Image.Image:
    """Grey from 32-bit values, by the smallest usual full scale that holds them, or their own."""
    finite = np.isfinite(values)
    if not finite.any():
        raise ImageError("no finite pixel value")
    low, high = float(values[finite].min()), float(values[finite].max())
    values = np.where(finite, values, low)
    # Pillow gives some 16-bit files as 32-bit integers, but never those of 8 bits.
    scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    for full in scales:
        if low >= 0 and high <= full:
            return _grey(values, 0, full)
    return _grey(values, low, max(high, low + 1))


def _grey(values: np.ndarray, low: float, high: float) -> Image.Image:
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
