"""In: a file's bytes. Out: an image of which the header has been read, and no pixel yet."""

import io
import struct
from functools import cache

from PIL import Image, ImageFile, UnidentifiedImageError

from mfavbs.errors import ImageError

# Named, so that no file can reach the rarer parsers (EPS starts Ghostscript, for one).
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF")
# Of ISO base media files with pictures coded by HEVC; mif1 and msf1 hold AVIF as well.
_HEIF_BRANDS = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1", b"mif2"),
)


def identify(content: bytes) -> ImageFile.ImageFile:
    """Open an image of one of `FORMATS`, or of HEIF where the extra is installed.

    As ``Image.open`` does, but for its limit on pixels: that is one for the whole process and knows
    no bytes, :mod:`mfavbs.images.memory` asks instead.

    Raises
    ------
    ImageError
        It is HEIF, and the extra is missing.
    UnidentifiedImageError
        It is none of these.
    Exception
        What Pillow's parser ran into where the format is known, and the file damaged.
    """
    prefix = content[:16]
    fault: Exception | None = None
    for name in _formats():
        factory, accepts = Image.OPEN[name]
        try:
            answer = not accepts or accepts(prefix)
        except struct.error:  # fewer bytes than it looks at
            continue
        if isinstance(answer, str):  # a format that this Pillow was built without
            fault = ImageError(answer)
        elif answer:
            try:
                return factory(io.BytesIO(content), "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                fault = error
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        return _heif(content)
    if fault is not None:
        raise fault
    start = "0 bytes" if not content else f"starts with {bytes(content[:12])!r}"
    raise UnidentifiedImageError(f"not an image Pillow knows ({start})")


@cache
def _formats() -> list[str]:
    Image.init()  # AVIF is not in every Pillow
    return [name for name in FORMATS if name in Image.OPEN]


def _heif(content: bytes) -> ImageFile.ImageFile:
    try:
        # Not registered with Pillow, where it would be there for the caller's own images too.
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise ImageError('HEIC and HEIF need an extra: pip install "mfavbs[heif]"') from error
    return HeifImageFile(io.BytesIO(content), "")
