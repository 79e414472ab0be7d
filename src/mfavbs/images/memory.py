"""In: an image of which only the header is read. Out: nothing, or why it is not to be decoded."""

from typing import TYPE_CHECKING

from mfavbs.errors import ImageError
from mfavbs.images import png

if TYPE_CHECKING:  # the command line asks for IMAGE_MEMORY, and has no image yet
    from PIL import Image

MB = 10**6
IMAGE_MEMORY = 1000  # MB for one image at a time, and so for one worker
# Bytes of a pixel as Pillow holds it; 4 in all other modes.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# Their decoders hold a picture of their own before Pillow's: in YUV, in RGBA or as both.
_HELD_TWICE = ("WEBP", "AVIF", "HEIF")
# A picture's bytes are no fewer than these of it: deflate's limit, and a bit for each JPEG block.
_DEFLATE, _PIXELS_OF_A_JPEG_BYTE = 1032, 8 * 64


def check_memory(image: "Image.Image", full: tuple[int, int], image_memory: int) -> None:
    """Refuse an image that takes more than ``image_memory`` MB on its way to RGB.

    Parameters
    ----------
    image
        With its header read, at the size at which it is to be decoded.
    full
        (width, height) as filed.
    image_memory
        In MB.
    """
    pixels = image.width * image.height
    own = _BYTES.get(image.mode, 4)
    need = pixels * (own if image.mode == "RGB" else own + 4)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        need = pixels * max(own + 1, 5)  # grey of 8 bits between them, then the first is let go
    if image.has_transparency_data:
        need += 8 * pixels  # the paper, and the picture on it
    if image.format in _HELD_TWICE:
        need += 8 * pixels
    if image.info.get("progressive"):  # coefficients of 16 bits for all that is filed
        need += 2 * len(image.getbands()) * full[0] * full[1]
    if need > image_memory * MB:
        raise ImageError(
            f"too large: {full[0]} x {full[1]} pixels take {need / MB:,.0f} MB to decode; "
            f"{image_memory:,} MB are allowed for one image (--image-memory)"
        )


def check_content(image: "Image.Image", content: bytes) -> None:
    """Refuse a file with too few bytes for half of the pixels that it claims."""
    pixels = image.width * image.height
    possible: float = 2 * pixels
    if image.format == "PNG":
        possible = len(content) * _DEFLATE * 8 / png.header(content).bits
    elif image.format in ("JPEG", "MPO"):
        possible = len(content) * _PIXELS_OF_A_JPEG_BYTE
    if possible < pixels / 2:
        raise ImageError(
            f"truncated: {len(content):,} bytes cannot hold {image.width} x {image.height} pixels"
        )
