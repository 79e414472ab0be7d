"""In: pairs of tokens. Out: the blocks mix, or keep apart, what they say they do."""

import pytest
import torch
from torch import nn

from mfavbs import FAVB, MFAVBs, ViT

FUSIONS = ["channel", "token", "none"]
B, T, D = 3, 5, 16


def pair(b=B, t=T, d=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, b, t, d, generator=generator)
    return a, b


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n_blocks", [0, 1, 3])
@pytest.mark.parametrize(("shared_depth", "fused_depth"), [(1, 1), (2, 1), (0, 2), (1, 0), (0, 0)])
@pytest.mark.parametrize("t", [1, 5])
def test_a_pair_comes_out_as_it_went_in(fusion, n_blocks, shared_depth, fused_depth, t):
    blocks = MFAVBs(D, n_blocks, shared_depth, fused_depth, n_heads=2, fusion=fusion)
    a, b = blocks(*pair(t=t))
    assert a.shape == b.shape == (B, t, D)
    assert a.isfinite().all()
    assert b.isfinite().all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_blocks_are_the_identity(fusion):
    a, b = pair()
    c, d = MFAVBs(D, n_blocks=0, fusion=fusion)(a, b)
    assert torch.equal(a, c)
    assert torch.equal(b, d)


@pytest.mark.parametrize("fusion", ["token", "none"])
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_swapped_views_give_swapped_outputs(fusion, n_blocks):
    blocks = MFAVBs(D, n_blocks, fusion=fusion)
    a, b = pair()
    c, d = blocks(a, b)
    torch.testing.assert_close(blocks(b, a), (d, c), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_half_has_seen_both_views_where_they_are_fused(fusion):
    a, b = (x.requires_grad_() for x in pair())
    # The square: a sum of layer-normalised channels may have no gradient.
    MFAVBs(D, fusion=fusion)(a, b)[0].square().sum().backward()
    assert a.grad.abs().sum() > 0
    seen = b.grad is not None and bool(b.grad.abs().sum() > 0)
    assert seen == (fusion != "none")


def test_without_fusion_a_view_comes_out_as_beside_any_other():
    blocks = MFAVBs(D, n_blocks=2, fusion="none")
    a, b = pair()
    torch.testing.assert_close(blocks(a, b)[0], blocks(a, torch.zeros_like(b))[0])


@pytest.mark.parametrize(
    ("fusion", "shape"),
    [("channel", (B, T, 2 * D)), ("token", (B, 2 * T, D)), ("none", (2 * B, T, D))],
)
def test_the_larger_vit_sees_the_pair_along_the_axis_of_fusion(fusion, shape):
    block = FAVB(D, fusion=fusion)
    shapes = []
    block.fused.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    block(*pair())
    assert shapes == [shape]


def test_the_larger_vit_is_twice_as_wide_for_channels_only():
    assert parameters(FAVB(D).fused) == parameters(ViT(2 * D, 1, 4))
    assert parameters(FAVB(D).fused) > 3 * parameters(FAVB(D).shared)
    for fusion in ("token", "none"):
        assert parameters(FAVB(D, fusion=fusion).fused) == parameters(ViT(D, 1, 4))


def test_the_shared_vit_is_one_for_both_views():
    block = FAVB(D, fused_depth=0)
    a, b = pair()
    c, d = block(a, b)
    torch.testing.assert_close(c, block.shared(a))
    torch.testing.assert_close(d, block.shared(b))


def test_blocks_share_no_weights_and_are_as_many_as_asked():
    one, three = MFAVBs(D), MFAVBs(D, n_blocks=3)
    assert len(three.blocks) == 3
    assert parameters(three) == 3 * parameters(one)


def test_depth_counts_transformer_blocks():
    assert parameters(ViT(D, 3, 4)) == 3 * parameters(ViT(D, 1, 4))
    x, _ = pair()
    assert torch.equal(ViT(D, 0, 4)(x), x)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_small_gate_starts_near_the_identity(fusion):
    a, b = pair()
    near, far = (MFAVBs(D, 2, fusion=fusion, gate=gate)(a, b) for gate in (1e-6, None))
    torch.testing.assert_close(near, (a, b), atol=1e-4, rtol=0)
    assert (far[0] - a).abs().max() > 1e-2


def test_the_gate_is_learned():
    blocks = MFAVBs(D, gate=0.05)
    gates = [p for p in blocks.parameters() if p.unique().tolist() == pytest.approx([0.05])]
    assert len(gates) == 4  # attention and MLP, of the shared and of the larger ViT
    blocks(*pair())[0].square().sum().backward()
    assert all(gate.grad.abs().sum() > 0 for gate in gates)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_image_does_not_depend_on_its_batch(fusion):
    blocks = MFAVBs(D, n_blocks=2, fusion=fusion).double()
    a, b = (x.double() for x in pair())
    together = torch.stack(blocks(a, b))
    alone = torch.stack(blocks(a[1:2], b[1:2]))
    torch.testing.assert_close(together[:, 1:2], alone)
    a[0] += 1
    b[2] -= 1
    torch.testing.assert_close(torch.stack(blocks(a, b))[:, 1], together[:, 1])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_training_and_evaluation_compute_the_same(fusion):
    blocks = MFAVBs(D, fusion=fusion, gate=0.1)
    training = torch.stack(blocks.train()(*pair()))
    assert torch.equal(torch.stack(blocks.eval()(*pair())), training)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_weight_is_trained(fusion):
    blocks = MFAVBs(D, n_blocks=2, fusion=fusion)
    a, b = blocks(*pair())
    (a.square() * torch.arange(D)).sum().add((b**3).sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in blocks.parameters())


def test_it_learns_as_a_part_of_another_model():
    model = nn.ModuleDict({"blocks": MFAVBs(D, fusion="channel"), "head": nn.Linear(D, 1)})
    a, b = pair(b=32, t=2)
    target = b[:, 0, :1]  # to be found in the other view
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        out = model["head"](model["blocks"](a, b)[0][:, 0])
        loss = (out - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("fusion", ["", "channels", None])
def test_an_unknown_fusion_names_the_known(fusion):
    with pytest.raises(ValueError, match="'channel', 'token' or 'none'"):
        MFAVBs(D, fusion=fusion)
