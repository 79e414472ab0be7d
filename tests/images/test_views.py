"""In: drawn images. Out: their views are seeded by image, well formed, and leave no trace."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from mfavbs.errors import SourceError
from mfavbs.images.augmenting import AUGMENTS
from mfavbs.images.drawing import LUMA, colour_of, jitter_steps, random_crop, view_seed
from mfavbs.images.framing import Framing
from mfavbs.images.views import Views

DEFAULT = AUGMENTS["default"]


def photo(width=60, height=48, seed=0, low=0, high=256):
    noise = np.random.default_rng(seed).integers(low, high, (height // 6, width // 6, 3))
    return Image.fromarray(noise.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


class Drawn(Dataset):
    def __init__(self, keys, augmentation):
        self.keys = keys
        self.views = Views(32, 3, 5, augmentation=augmentation)

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, row):
        key = self.keys[row]
        return key, self.views(photo(seed=int(key)), key)


def drawn(keys, augmentation, batch_size, workers):
    loader = DataLoader(Drawn(keys, augmentation), batch_size=batch_size, num_workers=workers)
    return {key: view for batch in loader for key, view in zip(*batch)}


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_views_depend_on_no_row_batch_order_or_worker(augmentation):
    keys = [str(row) for row in range(8)]
    one = drawn(keys, augmentation, 3, 0)
    other = drawn(keys[::-1], augmentation, 2, 2)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in keys)


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
@pytest.mark.parametrize("size", [(60, 48), (31, 70), (8, 8), (1, 1), (1, 500), (700, 900)])
def test_shape_for_any_image_size(size, augmentation):
    image = photo(*np.maximum(size, 6)).crop((0, 0, *size))
    views = Views(24, 4, 0, augmentation=augmentation)(image, "a")
    assert views.shape == (4, 3, 24, 24)
    assert views.dtype == torch.uint8


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_threads_draw_what_one_draws(augmentation):
    views = Views(32, 4, 5, augmentation=augmentation)
    image, keys = photo(), [str(i) for i in range(40)]
    alone = [views(image, key) for key in keys]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda key: views(image, key), keys))
    assert all(torch.equal(a, b) for a, b in zip(alone, together))


@pytest.mark.parametrize("shape", [(300, 400), (100, 1000), (7, 5)])
def test_crops_are_distributed_as_torchvisions(shape):
    image = torch.zeros(3, *shape)
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    rng = Random(0)
    ours = [random_crop(*shape, rng, (0.2, 1.0)) for _ in range(3000)]
    for a, b in zip(np.transpose(ours), np.transpose(theirs)):
        assert ks_2samp(a, b).pvalue > 1e-3


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_views_differ_by_seed_content_and_number(augmentation):
    def draw(seed, key):
        return Views(32, 3, seed, augmentation=augmentation)(photo(), key)

    views = draw(0, "a")
    for other in (draw(1, "a"), draw(0, "b")):
        assert torch.equal(views[0], other[0])  # view 0 is not drawn
        assert not torch.equal(views[1], other[1])
        assert not torch.equal(views[2], other[2])
    assert not torch.equal(views[1], views[2])
    more = Views(32, 5, 0, augmentation=augmentation)(photo(), "a")
    assert torch.equal(more[:3], views)  # more views leave the first ones as they were


def test_view_seed_is_pinned():
    """The views of a stored run must be drawn again: change VIEWS_VERSION with these."""
    assert view_seed(0, "a.jpg", 1) == 551279587357086756
    assert view_seed(7, "d/é.png", 2) == 7091781901831065993
    assert len({view_seed(s, k, v) for s in (1, 12) for k in ("2", "a\0b") for v in (1, 2)}) == 8
    assert 0 <= view_seed(-1, "\udce9", 0) < 2**64


def test_clean_view_is_the_resized_centre():
    image = photo(90, 60)
    centre = image.resize((48, 32), Image.Resampling.BICUBIC).crop((8, 0, 40, 32))
    clean = Views(32, 1, 0)(image, "a")[0]
    assert (clean.int() - F.pil_to_tensor(centre).int()).abs().max() <= 1


def test_large_image_is_reduced_without_a_shift():
    image = photo(640, 640)
    expected = F.pil_to_tensor(image.resize((40, 40), Image.Resampling.BICUBIC))
    clean = Views(40, 1, 0)(image, "a")[0]
    assert (clean.float() - expected.float()).abs().mean() < 3


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_callers_random_state_is_left_alone(augmentation):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global state is what is asked about)
    before = torch.get_rng_state()
    Views(32, 3, 0, augmentation=augmentation)(photo(), "a")
    assert torch.equal(before, torch.get_rng_state())
    assert np.random.get_state()[2] == 624  # noqa: NPY002


@pytest.mark.parametrize(("hue", "tolerance"), [((0.0, 0.0), 0.01), ((-0.1, 0.1), 32)])
def test_colour_is_torchvisions(hue, tolerance):
    """Where nothing clips: exactly, but for the hue, turned in YIQ here and in HSV there."""
    ranges = DEFAULT._replace(hue=hue)
    image = F.pil_to_tensor(photo(low=110, high=146))
    flat = image.flatten(1).float()
    names = ("brightness", "contrast", "saturation", "hue")
    kernels = {name: getattr(F, f"adjust_{name}") for name in names}
    for seed in range(8):
        steps = jitter_steps(Random(seed), ranges)
        matrix, of_mean = colour_of(steps, False)
        offset = of_mean @ flat.mean(1).double().numpy()
        expected = image.float() / 255
        for step, factor in steps:
            expected = kernels[step](expected, factor)
        mine = (matrix @ flat.numpy() + offset[:, None]).reshape(image.shape)
        assert np.abs(mine - expected.numpy() * 255).max() < tolerance


def test_every_order_of_the_jitter_is_as_likely():
    rng = Random(0)
    orders = [tuple(step for step, _ in jitter_steps(rng, DEFAULT)) for _ in range(2400)]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert 60 < min(counts) <= max(counts) < 140


def banner(colour_of_the_rest=(0, 90, 0)):
    """Four times as wide as high; red in its left quarter only."""
    pixels = np.full((60, 240, 3), colour_of_the_rest, np.uint8)
    pixels[:, :60] = (250, 0, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_banners_are_whole_where_asked(fit):
    framing = Framing(fit, fill=(0, 0, 255))
    clean, *others = Views(48, 200, 0, framing=framing)(banner(), "a").float()
    reds = [float(((v[0] > v[1] + 40) & (v[0] > v[2] + 40)).float().mean()) for v in others]
    share = np.mean([red > 0 for red in reds])
    assert share < 0.5 if fit == "crop" else share > 0.6
    red = ((clean[0] > 200) & (clean[1] < 60)).float().mean()
    assert abs(red - {"crop": 0, "squash": 1 / 4, "pad": 1 / 16}[fit]) < 0.02
    blue = torch.stack([(v[2] == 255) & (v[0] == 0) for v in (clean, *others)]).float()
    if fit == "pad":  # the filled part keeps its colour, and is no more than the banner's own
        assert abs(blue[0].mean() - 3 / 4) < 0.02
        assert 0.5 < blue[1:].mean() < 0.8
        assert (blue[1:, 24].mean(1) < 0.5).all()  # the middle row always shows the image
    else:
        assert not blue.any()


def test_colour_keeps_grey_grey_and_hue_keeps_luma():
    for seed in range(8):
        matrix, of_mean = colour_of(jitter_steps(Random(seed), DEFAULT), False)
        grey = matrix @ np.full(3, 100.0) + of_mean @ [90.0, 120.0, 60.0]
        assert np.ptp(grey) < 0.1
    matrix, of_mean = colour_of([], True)
    np.testing.assert_allclose(matrix, np.tile(LUMA, (3, 1)))
    assert not of_mean.any()


def test_simclr_sometimes_flips_jitters_and_greys():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.linspace(60, 120, 64)
    ramp[..., 1] = 120
    views = Views(16, 400, 0)(Image.fromarray(ramp), "a")[1:].float()
    flipped = (views[:, :, :, 0].mean((1, 2)) > views[:, :, :, -1].mean((1, 2))).float().mean()
    grey = ((views[:, 0] - views[:, 1]).abs().amax((1, 2)) <= 1).float().mean()
    plain = (views[:, 2].amax((1, 2)) <= 1).float().mean()  # blue is still 0: not jittered
    assert 0.4 < flipped < 0.6
    assert 0.12 < grey < 0.28
    assert plain > 0.1


@pytest.mark.parametrize("ground", [0, 255])
def test_shift_has_no_border_of_its_own(ground):
    """A character on black or white: what comes in from outside is ground, and no corner shows."""
    image = np.full((28, 28), ground, np.uint8)
    image[10:18, 12:16] = 255 - ground
    views = Views(28, 40, 0, augmentation="shift")(Image.fromarray(image), "a")
    ring = torch.cat(
        [side.flatten() for side in (views[..., :4, :], views[..., :4], views[..., -4:])]
    )
    assert (ring.int() - ground).abs().max() <= 12  # bicubic rings a little about the strokes
    assert torch.equal(views[:, 0], views[:, 1])  # no colour is added


def test_shift_moves_by_no_more_than_it_says():
    image = np.zeros((100, 100), np.uint8)
    image[45:55, 45:55] = 255
    views = Views(100, 60, 0, augmentation="shift")(Image.fromarray(image), "a")[1:, 0].float()
    at = torch.arange(100.0)
    mass = views.sum((1, 2))
    centre = torch.stack([(views.sum(2) @ at) / mass, (views.sum(1) @ at) / mass], 1) - 49.5
    assert centre.abs().max() <= 3.5
    assert centre.std(0).min() > 1
    assert 1.06 < mass.max() / mass.min() < 1.25


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match="augmentation='autoaugment' should be one of"):
        Views(32, 2, 0, augmentation="autoaugment")
    with pytest.raises(ValueError, match="image_size=0"):
        Views(0, 2, 0)
    with pytest.raises(SourceError, match="n_views=0 should be >= 1"):
        Views(32, 0, 0)
    with pytest.raises(SourceError, match="augment='mild' should be one of none, gentle, default"):
        Views(32, 2, 0, augment="mild")


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        ("simclr", [131.855, 133.008, 135.576, 123.698]),
        ("shift", [131.855, 132.133, 131.932, 131.845]),
    ],
)
def test_default_views_are_pinned(augmentation, expected):
    """Stores of before there was a choice hold these: change VIEWS_VERSION with them."""
    views = Views(32, 4, 0, augmentation=augmentation)(photo(), "a")
    again = Views(32, 4, 0, augment="default", augmentation=augmentation)(photo(), "a")
    assert torch.equal(views, again)
    assert views.double().mean((1, 2, 3)).tolist() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_none_is_the_clean_view_alone(augmentation):
    views = Views(32, 5, 0, augment="none", augmentation=augmentation)
    assert views.n_views == views.recipe["n_views"] == 1
    clean = Views(32, 1, 0, augmentation=augmentation)
    assert torch.equal(views(photo(), "a"), clean(photo(), "a"))


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
def test_the_stronger_the_farther(augmentation):
    """Of a smooth image, whose pixels tell how far a view has gone."""
    ramp = np.stack([*np.meshgrid(np.arange(96), np.arange(96)), np.full((96, 96), 60)], -1)
    image = Image.fromarray((60 + ramp).astype(np.uint8))
    far = []
    for augment in ("gentle", "default", "strong"):
        clean, *others = Views(24, 80, 0, augment=augment, augmentation=augmentation)(image, "a")
        far.append(float((torch.stack(others).float() - clean).abs().mean()))
    assert 1.3 * far[0] < far[1] < far[2] / 1.3


def test_gentle_views_keep_direction_and_hue():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0] = np.linspace(80, 140, 64)
    ramp[..., 1], ramp[..., 2] = ramp[..., 0] // 2, ramp[..., 0] // 4
    views = Views(16, 200, 0, augment="gentle")(Image.fromarray(ramp), "a").float()
    assert (views[..., 0].mean((1, 2)) < views[..., -1].mean((1, 2))).all()
    red, green, blue = views.mean((2, 3)).unbind(1)
    hue = (green - blue) / (red - blue)  # of the sextant from red to yellow: a third
    assert (hue - 1 / 3).abs().max() < 0.02
    assert (red - green).min() > 30  # nowhere near grey


@pytest.mark.parametrize("augmentation", ["simclr", "shift"])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_rotate_lays_the_default_views_in_eight_ways(augmentation, fit):
    """Pixel for pixel those of the default, each way as often as the others."""
    about = {"augmentation": augmentation, "framing": Framing(fit)}
    plain = Views(16, 401, 0, **about)(photo(), "a")
    turned = Views(16, 401, 0, augment="rotate", **about)(photo(), "a")
    assert torch.equal(plain[0], turned[0])
    ways = []
    for one, other in zip(plain[1:], turned[1:]):
        laid = [one.rot90(turn, (-2, -1)) for turn in range(4)]
        laid += [each.flip(-2) for each in laid]
        ways += [way for way, each in enumerate(laid) if torch.equal(each, other)]
    assert len(ways) == 400  # no view of this image is like itself turned
    assert min(ways.count(way) for way in range(8)) > 25


def test_clean_view_is_antialiased():
    """Stripes one pixel wide must become grey, not a moiré of black and white."""
    stripes = np.zeros((128, 128), np.uint8)
    stripes[:, ::2] = 255
    clean = Views(32, 1, 0)(Image.fromarray(stripes), "a")[0]
    assert (clean.float() - 127.5).abs().max() < 12  # the ends ring
