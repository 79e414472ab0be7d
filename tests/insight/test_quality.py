"""What is said of pictures that are poor as such."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mfavbs.images import LOOK, decode, look_of
from mfavbs.insight import FLAGS, flag_pictures


def grain(size=(200, 150), low=0, high=255, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(low, high + 1, (size[1], size[0], 3), np.uint8))


def looks(*images):
    found = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        found.append(look_of(decode(file.getvalue()), file.getvalue()))
    return np.array(found, LOOK)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (grain(), []),
        (grain(low=0, high=20), ["nearly black"]),
        (grain(low=230), ["nearly white"]),
        (Image.new("RGB", (200, 150), (120, 120, 120)), ["no content"]),
        (Image.new("RGB", (200, 150)), ["nearly black"]),
        (grain((20, 15)).resize((200, 150), 0).filter(ImageFilter.GaussianBlur(5)), ["blurred"]),
        (grain((20, 16)), ["tiny"]),
        (grain((700, 200)), ["long and narrow"]),
        (grain((200, 700)), ["long and narrow"]),
        (grain((90, 20), high=10), ["nearly black", "tiny", "long and narrow"]),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(image, expected):
    usual = [grain(seed=seed) for seed in range(1, 4)]
    *rest, found = flag_pictures(looks(*usual, image))
    assert rest == [[]] * 3
    assert found == expected
    assert set(expected) <= set(FLAGS)


def test_small_pictures_are_not_tiny_where_all_are_small():
    assert flag_pictures(looks(*[grain((8, 8), seed=seed) for seed in range(5)])) == [[]] * 5


def test_nothing_is_said_of_a_picture_that_was_not_looked_at():
    some = np.concatenate([np.zeros(1, LOOK), looks(grain())])
    assert flag_pictures(some) == [None, []]
    assert flag_pictures(np.zeros(2, LOOK)) == [None, None]
