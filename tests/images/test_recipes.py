"""In: views. Out: some blurred or solarised, as closed forms and other libraries have it."""

import PIL.Image
import PIL.ImageOps
import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur

from mfavbs.images import RECIPES, changed_in_part
from mfavbs.images.recipes import Shares, blurred, solarised


def noise(b=5, s=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (b, 3, s, s), generator=generator, dtype=torch.uint8)


def drawn(views, shares, seed=0):
    return changed_in_part(views, shares, torch.Generator().manual_seed(seed))


def is_changed(views, others):
    return (views != others).flatten(1).any(dim=1)


@pytest.mark.parametrize(("s", "size"), [(8, 3), (32, 3), (64, 7), (224, 23)])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_a_blur_is_that_of_torchvision(s, size, sigma):
    views = noise(2, s)
    got, expected = blurred(views, torch.full((2,), sigma)), gaussian_blur(views, size, sigma)
    assert got.dtype == torch.uint8
    assert (got.int() - expected.int()).abs().max() <= 1  # where a sum lies between two
    assert (got != expected).float().mean() < 1e-3
    parts = views / 255
    torch.testing.assert_close(
        blurred(parts, torch.full((2,), sigma)), gaussian_blur(parts, size, sigma)
    )


def test_a_view_is_blurred_by_its_own_width_whatever_the_others():
    views, sigma = noise(), torch.tensor([0.1, 0.4, 0.9, 1.5, 2.0])
    together = blurred(views, sigma)
    for i in range(5):
        alone = blurred(views[i : i + 1], sigma[i : i + 1])
        assert (together[i].int() - alone[0].int()).abs().max() <= 1
    assert torch.equal(together[0], views[0])  # a tenth of a pixel reaches no other
    spread = together.float().var(dim=(1, 2, 3))
    assert (spread[1:] < spread[:-1]).all()


def test_a_blur_keeps_a_constant_and_the_mass_and_knows_no_direction():
    sigma = torch.tensor([0.3, 2.0])
    grey = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 3, 16, 16)
    assert torch.equal(blurred(grey, torch.linspace(0.1, 2, 256)), grey)
    point = torch.zeros(2, 3, 64, 64)
    point[:, :, 20, 41] = 1
    smooth = blurred(point, sigma)
    torch.testing.assert_close(smooth.sum(dim=(2, 3)), torch.ones(2, 3))
    assert smooth[1].max() < 0.05 < smooth[0].max()
    views = noise(2, 32)
    for turned in (lambda x: x.mT, lambda x: x.flip(2), lambda x: x.flip(3)):
        there, back = blurred(turned(views), sigma), turned(blurred(views, sigma))
        assert (there.int() - back.int()).abs().max() <= 1


def test_solarised_is_that_of_pillow_and_twice_is_once():
    views = noise(1, 32)
    image = PIL.Image.fromarray(views[0].permute(1, 2, 0).numpy())
    got = solarised(views)
    pixels = torch.frombuffer(bytearray(PIL.ImageOps.solarize(image).tobytes()), dtype=torch.uint8)
    assert torch.equal(got[0].permute(1, 2, 0), pixels.view(32, 32, 3))
    assert torch.equal(solarised(got), got)
    assert torch.equal(solarised(255 - views), got)  # what a negative shows is the same
    torch.testing.assert_close(solarised(views / 255), got / 255)


@pytest.mark.parametrize("shares", [Shares(0.1, 0.0), Shares(0.5, 0.0), Shares(0.0, 0.2)])
def test_as_many_views_are_changed_as_are_asked_for(shares):
    views = noise(4000, 8)
    others = drawn(views, shares)
    share = is_changed(views, others).float().mean().item()
    # A blur by less than about 0.27 pixels rounds to nothing.
    expected = shares.solarise or shares.blur * (1 - 0.17 / 1.9)
    assert abs(share - expected) < 0.03
    assert torch.equal(views, noise(4000, 8))


def test_same_seed_same_views_and_of_what_is_not_asked_nothing_is_drawn():
    views, generator = noise(64, 8), torch.Generator().manual_seed(3)
    before = generator.get_state()
    for shares in RECIPES["colours"]:
        assert changed_in_part(views, shares, generator) is views
    assert torch.equal(generator.get_state(), before)
    shares = Shares(0.5, 0.5)
    assert torch.equal(drawn(views, shares), drawn(views, shares))
    assert not torch.equal(drawn(views, shares), drawn(views, shares, seed=1))
    assert torch.equal(drawn(views, Shares(0.0, 1.0)), solarised(views))
    assert torch.equal(drawn(views[:1], Shares(1e-9, 0.0)), views[:1])
