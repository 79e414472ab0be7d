"""What is kept of how an image looks."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mfavbs.images import LOOK, decode, look_of


def photo(width=200, height=150, seed=0):
    """Smooth patches and fine grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    grain = rng.integers(-30, 31, (height, width, 3))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST), np.int64)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **{"format": "PNG"} | options)
    return file.getvalue()


def look(content, at_least=None):
    return look_of(decode(content, at_least), content)


def test_the_size_is_of_the_whole_image_though_a_part_of_it_is_decoded():
    content = saved(photo(1600, 1200), format="JPEG")
    image = decode(content, 150)
    assert image.size < (1600, 1200)
    found = look_of(image, content)
    assert (found["width"], found["height"]) == (1600, 1200)


def test_the_size_is_as_the_image_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(photo(120, 80), format="JPEG", exif=exif)
    found = look(content)
    assert (found["width"], found["height"]) == (80, 120)


def test_an_array_has_the_size_of_its_image():
    pixels = np.asarray(photo(50, 40))
    found = look_of(decode(pixels), pixels)
    assert (found["width"], found["height"]) == (50, 40)


def test_blur_grows_as_an_image_is_blurred_and_not_with_its_contrast():
    image = photo()
    blurred = [look(saved(image.filter(ImageFilter.GaussianBlur(r))))["blur"] for r in (0, 1, 2, 4)]
    assert blurred == sorted(blurred)
    assert blurred[-1] - blurred[0] > 0.3
    pale = Image.eval(image, lambda value: 100 + value // 4)
    assert look(saved(pale))["blur"] == pytest.approx(blurred[0], abs=0.05)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (8, 8), (9, 9)])
def test_the_smallest_images_have_a_look(size):
    found = look(saved(Image.new("RGB", size, (0, 0, 0))))
    assert found.dtype == LOOK
    assert (found["darkest"], found["brightest"], found["blur"]) == (0, 0, 0)


def test_the_thumbnail_is_the_mean_of_what_lies_under_each_of_its_pixels():
    image = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8))
    expected = np.asarray(image, float).reshape(32, 2, 32, 2).mean((1, 3))
    assert np.abs(look(saved(image))["grey"] - expected).max() <= 1
