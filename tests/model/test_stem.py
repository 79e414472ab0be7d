"""In: views of many sizes. Out: as many tokens as there are patches, and what goes with them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mfavbs.errors import SourceError
from mfavbs.model import PixelView, Stem
from mfavbs.model.blocks import ViT
from mfavbs.model.stem import start_weights

B, D = 3, 16


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def view(s=8, widths=(), b=B):
    pixels = torch.randint(256, (b, 3, s, s), dtype=torch.uint8)
    return PixelView(pixels, torch.randn(b, sum(widths)))


@pytest.mark.parametrize(("s", "patches"), [(8, 4), (32, 64), (60, 225), (64, 16), (224, 196)])
@pytest.mark.parametrize("widths", [(), (5,), (5, 7)])
def test_a_view_becomes_a_class_token_its_anchors_and_its_patches(s, patches, widths):
    tokens = Stem(D, s, widths)(view(s, widths))
    assert tokens.shape == (B, 1 + len(widths) + patches, D)
    assert tokens.isfinite().all()


@pytest.mark.parametrize(
    ("s", "advice"), [(4, "8"), (30, "28 or 32"), (62, "60 or 64"), (72, "64 or 80")]
)
def test_a_size_that_no_stem_takes_names_those_that_are_near(s, advice):
    text = rf"4 pixels from 8 to 60, or of 16 from 64, got {s}; take {advice}$"
    with pytest.raises(SourceError, match=text):
        Stem(D, s)


def test_a_width_without_its_eighth_is_refused():
    with pytest.raises(ValueError, match="dim=20 should be a multiple of 8"):
        Stem(20, 32)


def test_large_views_go_through_the_convolutions_of_vtcc():
    convolutions = [m for m in Stem(32, 64).modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.out_channels, m.kernel_size, m.stride) for m in convolutions]
    halving = [(width, (3, 3), (2, 2)) for width in (4, 8, 16, 32)]
    assert shapes == [*halving, (32, (1, 1), (1, 1))]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in Stem(32, 64).modules()) == 4


@pytest.mark.parametrize("s", [32, 64])
def test_positions_are_fixed_all_different_and_of_patches_alone(s):
    stem = Stem(D, s, [5])
    assert "positions" not in dict(stem.named_parameters())
    assert len(stem.positions.unique(dim=0)) == len(stem.positions)
    nn.init.zeros_(stem.class_token)
    for anchor in stem.anchors:
        nn.init.zeros_(anchor.weight)
    grey = PixelView(torch.full((1, 3, s, s), 100, dtype=torch.uint8), torch.ones(1, 5))
    tokens = stem.eval()(grey)
    assert tokens[:, :2].abs().max() == 0
    near, far = tokens[0, 2] - tokens[0, 3], stem.positions[0] - stem.positions[1]
    if s == 32:  # patches of one colour differ by their places alone
        torch.testing.assert_close(near, far)


def test_an_anchor_is_a_linear_map_of_its_part_of_the_direction():
    stem, x = Stem(D, 8, [5, 7]), view(8, (5, 7))
    unit = F.normalize(x.feature, dim=-1)
    expected = [stem.anchors[0](unit[:, :5]), stem.anchors[1](unit[:, 5:])]
    torch.testing.assert_close(stem(x)[:, 1:3], torch.stack(expected, dim=1))
    longer = x._replace(feature=10 * x.feature)
    torch.testing.assert_close(stem(longer), stem(x))


def test_a_withheld_feature_leaves_no_trace_and_no_gradient():
    stem, x = Stem(D, 8, [5]), view(8, (5,))
    x.feature.requires_grad_()
    kept = torch.tensor([True, False, True])
    tokens = stem(x._replace(kept=kept))
    tokens.square().sum().backward()
    assert (x.feature.grad.abs().sum(1) > 0).tolist() == kept.tolist()
    other = x._replace(feature=torch.where(kept[:, None], x.feature, -3.0), kept=kept)
    assert torch.equal(stem(other), tokens)
    assert stem.anchors[0].weight.grad.abs().sum() > 0


def test_a_view_does_not_depend_on_its_batch_in_evaluation():
    stem, x = Stem(D, 64).double().eval(), view(64)
    alone = PixelView(x.pixels[1:2], x.feature[1:2])
    torch.testing.assert_close(stem(x)[1:2], stem(alone))


def test_weights_start_as_in_vtcc():
    vit = ViT(64, 1, 4)
    start_weights(vit)
    qkv, mlp = vit[0].attn.qkv, vit[0].mlp.fc1
    for layer, n_out in ((qkv, 64), (mlp, 256)):
        bound = (6 / (64 + n_out)) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not mlp.bias.any()
    assert 0 < Stem(D, 8).class_token.std() < 1e-5
