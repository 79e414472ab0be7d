"""In: crops of stored views. Out: the same crops of other pixels, in colours drawn anew."""

from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from mfavbs.errors import SourceError
from mfavbs.images import AUGMENTS, Framing, Views, recolour, replay_crops, views_of_bases
from mfavbs.images.batched import MATRIX, OF_MEAN
from mfavbs.images.drawing import colour_of, jitter_steps
from mfavbs.images.replaying import colours

STEPS = ("brightness", "contrast", "saturation", "hue")


def smooth(width, height, seed=0):
    """A picture that any resizing leaves nearly the same."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def drawn(image, numbers, s, framing):
    pixels = torch.from_numpy(np.array(image)).flatten()
    return views_of_bases(pixels, [image.size[::-1]], numbers, s, framing)[0]


@pytest.mark.parametrize("kind", [{}, {"augment": "rotate"}, {"augmentation": "shift"}])
def test_of_the_same_pixels_they_are_the_stored_views(kind):
    views, image = Views(32, 6, 0, **kind), smooth(64, 64)
    numbers = replay_crops(views, ["a"], 64, 32)
    error = drawn(image, numbers, 32, views.framing).float() - views(image, "a").float()
    assert error.abs().max() <= 3
    assert error.abs().mean() < 0.3


@pytest.mark.parametrize("size", [(64, 64), (90, 60), (200, 310), (61, 60)])
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_of_squashed_pixels_they_show_the_same_part(size, fit):
    views, image = Views(32, 5, 3, framing=Framing(fit)), smooth(*size)
    numbers = replay_crops(views, ["a"], 80, 32, [size])
    got = drawn(image.resize((80, 80), Image.Resampling.BICUBIC), numbers, 32, views.framing)
    assert (got.float() - views(image, "a").float()).abs().mean() < 2


def test_views_of_another_edge_show_the_same_part():
    views, image = Views(32, 5, 0), smooth(64, 64)
    small = drawn(image, replay_crops(views, ["a"], 64, 16), 16, views.framing).float()
    expected = torch.nn.functional.avg_pool2d(views(image, "a").float(), 2)
    assert (small - expected).abs().mean() < 2


def test_a_size_is_wanted_for_each_image():
    with pytest.raises(SourceError, match="a size for each of 2 images, got 1"):
        replay_crops(Views(8, 2, 0), ["a", "b"], 8, 8, [(8, 8)])


def test_colours_are_those_of_each_view_alone():
    rng, n = Random(0), 40
    steps = [jitter_steps(rng, AUGMENTS["strong"]) for _ in range(n)]
    factors = torch.tensor([[dict(s)[name] for name in STEPS] for s in steps], dtype=torch.float64)
    order = torch.tensor([[STEPS.index(name) for name, _ in s] for s in steps])
    jitter, grey = torch.arange(n) % 5 > 0, torch.arange(n) % 3 == 0
    matrix, of_mean = colours(factors, order, jitter, grey)
    for i in range(n):
        expected = colour_of(steps[i] if jitter[i] else [], bool(grey[i]))
        np.testing.assert_allclose(matrix[i], expected[0], atol=1e-12)
        np.testing.assert_allclose(of_mean[i], expected[1], atol=1e-12)


def test_fresh_colours_leave_the_crops_alone():
    numbers = replay_crops(Views(16, 4, 0), list("abcdef"), 32, 16)
    fresh = recolour(numbers, "default", torch.Generator().manual_seed(0))
    changed = (fresh != numbers).any((0, 1))
    assert set(np.flatnonzero(changed)) <= set(range(*MATRIX.indices(39))) | set(
        range(*OF_MEAN.indices(39))
    )
    again = recolour(numbers, "default", torch.Generator().manual_seed(0))
    other = recolour(numbers, "default", torch.Generator().manual_seed(1))
    assert np.array_equal(fresh, again)
    assert not np.array_equal(fresh, other)
    assert np.array_equal(recolour(numbers, "none", torch.Generator()), numbers)


def test_fresh_colours_are_as_frequent_as_stored_ones():
    numbers = np.zeros((4000, 39), np.float32)
    fresh = recolour(numbers, "default", torch.Generator().manual_seed(0))[:, MATRIX]
    fresh = fresh.reshape(-1, 3, 3)
    grey = np.abs(fresh - fresh[:, :1]).max((1, 2)) < 1e-6  # each colour gets the same
    same = np.abs(fresh - np.eye(3)).max((1, 2)) < 1e-6
    assert abs(grey.mean() - 0.2) < 0.03
    assert abs(same.mean() - 0.2 * 0.8) < 0.03
