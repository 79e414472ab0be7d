"""In: representations. Out: the heads see directions only, and each cluster head is its own."""

import pytest
import torch
import torch.nn.functional as F

from mfavbs.model.heads import ClusterHeads, InstanceHead, Projector, ProjectorHeads


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(("b", "d", "k", "h"), [(6, 8, 5, 3), (1, 4, 2, 1)])
def test_shapes(b, d, k, h):
    x = torch.randn(b, d)
    assert ClusterHeads(d, k, h)(x).shape == (h, b, k)
    assert InstanceHead(d)(x).shape[0] == b
    assert InstanceHead(d, embedding_dim=7)(x).shape == (b, 7)


def test_projectors_are_three_layers_with_batch_norm():
    x = torch.randn(6, 8)
    heads = ProjectorHeads(8, 5, 3)
    assert heads(x).shape == (3, 6, 5)
    assert heads(x, slice(1, 2)).shape == (1, 6, 5)
    assert heads(x, slice(0, 0)).shape == (0, 6, 5)
    assert Projector(8)(x).shape == (6, 128)
    assert sum(p.numel() for p in heads[0].parameters()) == 8 * 32 + 32 * 32 + 4 * 32 + 33 * 5
    # Batch norm takes away what all images of a batch have in common.
    normed = heads[0][1](heads[0][0](x))
    torch.testing.assert_close(normed.mean(0), torch.zeros(32), atol=1e-5, rtol=0)
    heads.eval()
    torch.testing.assert_close(heads(x)[:, :2], heads(x[:2]))


def test_cluster_logits_do_not_depend_on_lengths():
    heads, x = ClusterHeads(8, 5, 3), torch.randn(6, 8)
    logits = heads(x)
    torch.testing.assert_close(heads(100 * x), logits)
    heads.prototypes.data *= 7
    torch.testing.assert_close(heads(x), logits)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_cluster_logits_are_cosines_over_the_temperature(temperature):
    heads, x = ClusterHeads(8, 5, 2, temperature), torch.randn(6, 8)
    cosines = F.cosine_similarity(x[None, :, None], heads.prototypes[:, None], dim=-1)
    torch.testing.assert_close(heads(x), cosines / temperature)


def test_a_prototype_belongs_to_its_own_cluster():
    heads = ClusterHeads(8, 5, 3)
    for head, prototypes in enumerate(heads.prototypes):
        assert heads(prototypes)[head].argmax(1).tolist() == list(range(5))


def test_heads_are_independent():
    heads, x = ClusterHeads(8, 5, 3), torch.randn(6, 8)
    before = heads(x).detach()
    before_gradient = heads(x)[1].square().sum()
    before_gradient.backward()
    assert heads.prototypes.grad[1].abs().sum() > 0
    assert not heads.prototypes.grad[[0, 2]].any()
    heads.prototypes.data[0] *= -1
    after = heads(x).detach()
    torch.testing.assert_close(after[0], -before[0])
    assert torch.equal(after[1:], before[1:])


def test_zeros_stay_finite():
    heads, x = ClusterHeads(8, 5, 2), torch.zeros(3, 8, requires_grad=True)
    heads(x).softmax(-1).square().sum().backward()
    assert x.grad.isfinite().all()
    assert heads.prototypes.grad.isfinite().all()


def test_a_row_does_not_depend_on_the_others():
    head, heads, x = InstanceHead(8), ClusterHeads(8, 5, 2), torch.randn(6, 8)
    torch.testing.assert_close(head(x)[2:3], head(x[2:3]))
    torch.testing.assert_close(heads(x)[:, 2:3], heads(x[2:3]))
