"""In: a camera's RAW file. Out: an upright RGB image, as the camera's own settings have it."""

import io

from PIL import Image

from mfavbs.errors import ImageError
from mfavbs.images.finding import RAW_SUFFIXES, suffix_of
from mfavbs.images.memory import MB

_BYTES = 10  # of a pixel of the sensor: as filed, unpacked, and at half size in 16 and 8 bits


def is_raw(name: str) -> bool:
    """Whether a file is a camera's RAW file by its name: by content most of them are TIFFs."""
    return suffix_of(name) in RAW_SUFFIXES


def decode_raw(content: bytes, image_memory: int) -> Image.Image:
    """Mode RGB, half as wide and high as the sensor: each 2 x 2 of its cells makes a pixel.

    Raises
    ------
    ImageError
        The extra is missing, the image too large, or LibRaw cannot read it.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError('RAW files need an extra: pip install "mfavbs[raw]"') from error
    try:
        # rawpy.imread warns in every forked process; this one is the first to use LibRaw's threads.
        with rawpy.RawPy() as raw:
            raw.open_buffer(io.BytesIO(content))
            width, height = raw.sizes.raw_width, raw.sizes.raw_height
            if width * height * _BYTES > image_memory * MB:
                raise ImageError(
                    f"too large: {width} x {height} pixels take "
                    f"{width * height * _BYTES / MB:,.0f} MB to decode; {image_memory:,} MB are "
                    "allowed for one image (--image-memory)"
                )
            return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ImageError(f"damaged, or a RAW format that LibRaw does not know: {text}") from error
