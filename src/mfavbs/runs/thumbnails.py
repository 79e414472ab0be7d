"""Paths of images come in, a thumbnail for each that can be read goes out, as a data URI.

Only the images on show are decoded, each once: a report on a million images decodes a thousand.
"""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import normalize

from PIL import Image

from mfavbs.errors import ImageError
from mfavbs.images import IMAGE_MEMORY, Images, Range, read_image

EDGE = 96
# WebP at this quality is 2 to 4 KB for a photograph of 96 px, two thirds of the same as JPEG.
QUALITY = 80
# Up to here a lossless file is as small, and drawn with hard pixels it shows what the encoder saw.
TINY = 32


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image, the URI holding its bytes, sizes in pixels."""

    uri: str
    width: int
    height: int


def thumbnails(
    images: Images,
    paths: Iterable[str],
    value_range: Range | None = None,
    image_memory: int = IMAGE_MEMORY,
) -> tuple[dict[str, Thumbnail], str | None]:
    """Make the thumbnails of some images, at most 96 px at the short edge.

    Grey values and memory are those of the run, as in :func:`mfavbs.images.decode`.

    Returns
    -------
    made, reason
        By path; where some could not be made, in words how many and why, else None.
    """
    wanted = set(paths)
    # Another disk may spell the same name with composed or with combining characters.
    composed = {normalize("NFC", path): path for path in wanted}
    made: dict[str, Thumbnail] = {}
    first: str | None = None
    # In the order of the rows, which makes one pass over a compressed tar.
    for row, name in enumerate(images.keys):
        key = name if name in wanted else composed.get(normalize("NFC", name))
        if key is None or key in made:
            continue
        try:
            picture = read_image(
                images, row, EDGE, value_range=value_range, image_memory=image_memory
            )
        except ImageError as error:
            first = first or f"{key}: {error}"
        else:
            made[key] = _thumbnail(picture.image)
    lost = sorted(wanted - set(made))
    if not lost:
        return made, None
    reason = first or f"{lost[0]}: not among the images any more"
    return made, f"{len(lost):,} of {len(wanted):,} thumbnails could not be made ({reason})"


def _thumbnail(image: Image.Image) -> Thumbnail:
    width, height = image.size
    # A panorama keeps its middle: twice as long as wide is as much as a tile can show.
    across, down = min(width, 2 * height), min(height, 2 * width)
    left, top = (width - across) // 2, (height - down) // 2
    scale = min(1.0, EDGE / min(across, down))
    size = (max(1, round(across * scale)), max(1, round(down * scale)))
    box = (left, top, left + across, top + down)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, box=box)
    file = io.BytesIO()
    kind = "png" if min(size) <= TINY else "webp"
    image.save(file, kind, **({} if kind == "png" else {"quality": QUALITY}))
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{kind};base64,{text}", *size)
