"""Paths of images come in, a thumbnail for each that can be read goes out, as a data URI.

Only the images on show are decoded, each once: a report on a million images decodes a thousand.
"""

import base64
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError, MfavbsError
from mfavbs.images import Images, decode, open_images

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


def open_source(source: Mapping[str, Any]) -> tuple[Images | None, str | None]:
    """Open the images of a run where its ``run.json`` says they were.

    Returns
    -------
    images, reason
        One of the two is None: the reason is a sentence for the reader of the report.
    """
    kind, location = source.get("kind"), str(source.get("location") or "")
    if kind not in ("folder", "tar", "list") or not location:
        return None, f"No thumbnails: the source of this run, {kind}, names no place to read from."
    if not os.path.exists(location):
        return None, (
            f"No thumbnails: {location} is not there any more. Put it back and write the report "
            "again with `mfavbs report`."
        )
    try:
        return open_images(location), None
    except (MfavbsError, OSError) as error:
        return None, f"No thumbnails: the images cannot be opened ({error})."


def thumbnails(images: Images, paths: Iterable[str]) -> tuple[dict[str, Thumbnail], str | None]:
    """Make the thumbnails of some images, at most 96 px at the short edge.

    Returns
    -------
    made, reason
        By path; where some could not be made, a sentence on how many and why, else None.
    """
    wanted = set(paths)
    made: dict[str, Thumbnail] = {}
    first: str | None = None
    # In the order of the rows, which makes one pass over a compressed tar.
    for row, key in enumerate(images.keys):
        if key not in wanted:
            continue
        try:
            made[key] = _thumbnail(images.read(row))
        except ImageError as error:
            first = first or f"{key}: {error}"
    lost = sorted(wanted - set(made))
    if not lost:
        return made, None
    reason = first or f"{lost[0]}: not among the images any more"
    return made, f"{len(lost):,} of {len(wanted):,} thumbnails could not be made ({reason})."


def _thumbnail(content: bytes | np.ndarray) -> Thumbnail:
    image = decode(content, at_least=EDGE)
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
