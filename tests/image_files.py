"""In: a colour, a size, a format. Out: small images of known colours, and files of them."""

import io

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError
from mfavbs.images import decode

RED = (200, 40, 30)
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200)}


def encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def red(width=24, height=16, mode="RGB"):
    return Image.new("RGB", (width, height), RED).convert(mode)


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(red()) if content is None else content)
    return path


def close(image, colour, tolerance=6):
    assert image.mode == "RGB"
    return np.abs(np.asarray(image).astype(int) - colour).max() <= tolerance


def reasons(images):
    out = {}
    for row, key in enumerate(images.keys):
        try:
            decode(images.read(row))
        except ImageError as error:
            out[key] = str(error)
            assert "\n" not in out[key]
    return out


def noise(width=64, height=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def paint(path, colour, seed):
    """A file of 16 x 16 pixels of about that colour, each seed's its own."""
    speckles = np.random.default_rng(seed).integers(-25, 25, (16, 16, 3))
    pixels = np.clip(np.array(colour) + speckles, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
