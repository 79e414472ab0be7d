"""Views drawn in batches, as on a GPU, are those of a CPU, and each image's its own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

import mfavbs.images.batched
import mfavbs.images.views
from mfavbs.images import Framing, Views, views_of_bases

SIZES = [(60, 48), (200, 150), (150, 201), (500, 375), (32, 32), (7, 300), (1, 1), (900, 700)]
KINDS = {
    "default": {},
    "strong": {"augment": "strong"},
    "rotate": {"augment": "rotate"},
    "none": {"augment": "none"},
    "padded": {"framing": Framing("pad", fill=(10, 200, 30))},
    "squashed": {"framing": Framing("squash", interpolation="bilinear")},
    "cut": {"framing": Framing("crop", 0.875)},
    "lanczos": {"framing": Framing(interpolation="lanczos")},
    "shift": {"augmentation": "shift"},
    "shift, padded": {
        "augmentation": "shift",
        "augment": "rotate",
        "framing": Framing("pad", fill=(1, 2, 3)),
    },
}


def photo(width, height, seed):
    """Patches of colour under noise, for both edges and flat parts."""
    draw = np.random.default_rng(seed)
    patches = draw.integers(0, 256, (max(1, height // 12), max(1, width // 12), 3))
    blurred = Image.fromarray(patches.astype(np.uint8)).resize((width, height))
    noisy = np.asarray(blurred) + draw.integers(-25, 25, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def bases_of(views, sizes=SIZES):
    return [views.base(photo(*size, i), str(i)) for i, size in enumerate(sizes)]


def batched(bases, views, **options):
    pixels = torch.from_numpy(np.concatenate([base.pixels.ravel() for base in bases]))
    sizes = [base.pixels.shape[:2] for base in bases]
    numbers = np.stack([base.numbers for base in bases])
    return views_of_bases(pixels, sizes, numbers, views.image_size, views.framing, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_views_of_a_cpu(kind):
    """To a grey level or two, which the jitter may double."""
    views = Views(48, 5, 0, **KINDS[kind])
    expected = torch.stack([views(photo(*size, i), str(i)) for i, size in enumerate(SIZES)])
    got = batched(bases_of(views), views)
    assert got.dtype == torch.uint8
    assert got.shape == expected.shape
    error = (got.float() - expected.float()).abs()
    assert error[:, 0].max() <= 2
    assert error.max() <= 6
    assert (error > 1).float().mean() < 0.005
    assert error.mean() < 0.1


@pytest.mark.parametrize("kind", ["default", "padded", "shift, padded"])
@pytest.mark.parametrize("number_type", [torch.float32, torch.float16])
def test_an_images_views_depend_on_no_other_image(kind, number_type, monkeypatch):
    """Bit by bit: alone, in other company, in another order, with less memory."""
    monkeypatch.setattr(mfavbs.images.batched, "_number_type", lambda _: number_type)
    views = Views(32, 4, 0, **KINDS[kind])
    bases = bases_of(views)
    together = batched(bases, views)
    alone = torch.cat([batched([base], views) for base in bases])
    assert torch.equal(together, alone)
    assert torch.equal(together.flip(0), batched(bases[::-1], views))
    assert torch.equal(together, batched(bases, views, most=1))
    assert torch.equal(together, batched(bases, views, most=100_000))


def test_float16_draws_what_float32_draws(monkeypatch):
    """Half a grey level may be rounded to the other side, and no more."""
    views = Views(48, 5, 0, augment="gentle")
    bases = bases_of(views)
    expected = batched(bases, views).float()
    monkeypatch.setattr(mfavbs.images.batched, "_number_type", lambda _: torch.float16)
    error = (batched(bases, views).float() - expected).abs()
    assert error[:, 0].max() <= 2
    assert error.max() <= 4
    assert error.mean() < 0.15


def test_a_flat_image_stays_flat():
    """Weights are rounded: their sum still leaves white white."""
    views = Views(48, 8, 0, augment="gentle")
    for value in (0, 128, 255):
        base = views.base(Image.new("RGB", (311, 290), (value,) * 3), "a")
        assert (batched([base], views)[0, 0].float() - value).abs().max() <= 1


def test_what_would_need_much_memory_comes_drawn(monkeypatch):
    views = Views(24, 3, 0)
    usual = views.base(photo(100, 80, 0), "a")
    assert usual.pixels.shape == (80, 100, 3)
    monkeypatch.setattr(mfavbs.images.views, "_MOST_ELEMENTS", 1000)
    drawn = views.base(photo(100, 80, 0), "a")
    assert drawn.pixels.shape == (3 * 24, 24, 3)
    expected = views(photo(100, 80, 0), "a")[None]
    assert torch.equal(batched([drawn], views), expected)
    assert torch.equal(batched([usual, drawn, usual], views)[1:2], expected)


def test_nothing_is_left_on_another_device(monkeypatch):
    """On a GPU that is only said to be there: every tensor that meets another is there too."""
    views = Views(32, 4, 0, **KINDS["shift, padded"])
    bases = bases_of(views)
    numbers = np.stack([base.numbers for base in bases])
    numbers[:, :, 15] = 0.5  # coloured as well

    def there(values, device):
        assert device.type == "cuda"
        values = torch.as_tensor(values)
        return torch.empty(values.shape, dtype=values.dtype, device=device)

    monkeypatch.setattr(mfavbs.images.batched, "on_device", there)
    with FakeTensorMode(allow_non_fake_inputs=False):
        n = sum(base.pixels.size for base in bases)
        pixels = torch.empty(n, dtype=torch.uint8, device="cuda")
        sizes = [base.pixels.shape[:2] for base in bases]
        got = views_of_bases(pixels, sizes, numbers, 32, views.framing)
    assert got.device.type == "cuda"
    assert got.shape == (len(SIZES), 4, 3, 32, 32)
