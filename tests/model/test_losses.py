"""In: embeddings and assignments. Out: the losses agree with closed forms and symmetries."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss

from mfavbs.model.losses import balance_loss, cluster_loss, instance_loss


def embeddings(b=7, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(b, d, generator=generator), torch.randn(b, d, generator=generator)


def assignments(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    p, q = torch.randn(2, *shape, generator=generator).softmax(-1)
    return p, q


def balanced(b, k, dtype=torch.float32):
    return torch.eye(k, dtype=dtype).repeat(b // k, 1)


def collapsed(b, k, dtype=torch.float32):
    return torch.eye(k, dtype=dtype)[0].repeat(b, 1)


def value_and_gradient(loss, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = loss(*inputs)
    return value.detach(), torch.autograd.grad(value, inputs)


def ntxent(a, b, temperature):
    """NT-Xent by pytorch-metric-learning: rows of one class are positives."""
    classes = torch.arange(len(a)).repeat(2)
    return NTXentLoss(temperature)(torch.cat([a, b]), classes)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("b", [1, 2, 6])
def test_instance_loss_of_identical_orthogonal_rows(b, temperature):
    a = torch.eye(6)[:b]
    expected = math.log(math.exp(1 / temperature) + 2 * b - 2) - 1 / temperature
    assert instance_loss(a, a, temperature).item() == pytest.approx(expected, abs=1e-5)


def test_instance_loss_of_512_perfectly_aligned_rows_is_that_of_the_design():
    a = torch.eye(256)
    assert instance_loss(a, a).item() == pytest.approx(4.25, abs=0.005)


@pytest.mark.parametrize("b", [2, 5])
def test_instance_loss_of_uncorrelated_rows_is_a_guess_among_the_rest(b):
    rows = torch.eye(2 * b)
    assert instance_loss(rows[:b], rows[b:], 0.5).item() == pytest.approx(math.log(2 * b - 1))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("b", [2, 7, 64])
def test_instance_loss_is_that_of_pytorch_metric_learning(b, temperature):
    pair = embeddings(b)
    found = value_and_gradient(lambda x, y: instance_loss(x, y, temperature), *pair)
    torch.testing.assert_close(
        found, value_and_gradient(lambda x, y: ntxent(x, y, temperature), *pair)
    )


def test_instance_loss_of_a_batch_of_one_is_zero():
    a, b = embeddings(b=1)
    assert instance_loss(a, b).item() == 0


def test_instance_loss_symmetries():
    a, b = embeddings()
    loss = instance_loss(a, b)
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(instance_loss(b, a), loss)
    torch.testing.assert_close(instance_loss(a[order], b[order]), loss)
    torch.testing.assert_close(instance_loss(3 * a, b / 7), loss)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2)))[0]
    torch.testing.assert_close(instance_loss(a @ rotation, b @ rotation), loss)


def test_instance_loss_tells_positives_from_negatives():
    a, _ = embeddings()
    assert instance_loss(a, a) < instance_loss(a, a.roll(1, 0))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("k", [2, 3, 10])
def test_cluster_loss_of_balanced_one_hot_assignments(k, temperature):
    p = balanced(20 * k, k)
    expected = math.log(math.exp(1 / temperature) + 2 * k - 2) - 1 / temperature
    assert cluster_loss(p, p, temperature).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("k", [2, 4, 30])
def test_cluster_loss_is_that_of_pytorch_metric_learning_by_columns(k, temperature):
    pair = assignments(40, k)
    found = value_and_gradient(lambda p, q: cluster_loss(p, q, temperature), *pair)
    expected = value_and_gradient(lambda p, q: ntxent(p.T, q.T, temperature), *pair)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_cluster_loss_of_opposed_clusters_is_higher_than_of_agreeing_ones():
    p = balanced(12, 3)
    assert cluster_loss(p, p) < cluster_loss(p, p.roll(1, 1))


def test_cluster_loss_symmetries():
    p, q = assignments(9, 4)
    loss = cluster_loss(p, q)
    generator = torch.Generator().manual_seed(1)
    rows, clusters = torch.randperm(9, generator=generator), torch.randperm(4, generator=generator)
    torch.testing.assert_close(cluster_loss(q, p), loss)
    torch.testing.assert_close(cluster_loss(p[rows], q[rows]), loss)
    torch.testing.assert_close(cluster_loss(p[:, clusters], q[:, clusters]), loss)


@pytest.mark.parametrize("loss", [cluster_loss, lambda p, q: balance_loss(torch.cat([p, q], -2))])
def test_heads_together_equal_heads_one_by_one(loss):
    p, q = assignments(3, 2, 9, 4)
    together = loss(p, q)
    assert together.shape == (3, 2)
    alone = torch.stack([torch.stack([loss(*pair) for pair in zip(*row)]) for row in zip(p, q)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_balance_loss_at_both_ends_and_between(k):
    least = -math.log(k)
    assert balance_loss(balanced(4 * k, k)).item() == pytest.approx(least, rel=1e-6)
    assert balance_loss(torch.full((5, k), 1 / k)).item() == pytest.approx(least, rel=1e-6)
    assert balance_loss(collapsed(8, k)).item() == 0
    p, _ = assignments(6, k)
    assert least < balance_loss(p).item() < 0


def test_balance_loss_is_the_negative_entropy_of_the_mean():
    p, _ = assignments(6, 5)
    mean = p.mean(0)
    torch.testing.assert_close(balance_loss(p), (mean * mean.log()).sum())
    torch.testing.assert_close(balance_loss(p[:, [4, 2, 0, 1, 3]]), balance_loss(p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_whatever_comes_in_float32_comes_out(dtype):
    p = balanced(8, 4, dtype)
    assert instance_loss(p, p).dtype == torch.float32
    assert cluster_loss(p, p).dtype == torch.float32
    assert balance_loss(p).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_lose_no_more_than_their_own_rounding(dtype):
    a, b = (x.to(dtype) for x in embeddings())
    assert torch.equal(instance_loss(a, b), instance_loss(a.float(), b.float()))
    p, q = (x.to(dtype) for x in assignments(9, 4))
    assert torch.equal(cluster_loss(p, q), cluster_loss(p.float(), q.float()))
    assert torch.equal(balance_loss(p), balance_loss(p.float()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "p",
    [
        pytest.param(torch.eye(4)[:3].repeat(4, 1), id="an empty cluster"),
        pytest.param(collapsed(12, 4), id="all in one"),
        pytest.param(torch.zeros(12, 4), id="zeros"),
        pytest.param(torch.full((12, 4), 0.25), id="uniform"),
        pytest.param(torch.eye(4)[:1], id="a batch of one"),
        pytest.param(torch.full((12, 4), 1e-30), id="next to nothing"),
    ],
)
@pytest.mark.parametrize(
    "loss", [instance_loss, cluster_loss, lambda a, b: balance_loss(a) + balance_loss(b)]
)
def test_values_and_gradients_stay_finite(loss, p, dtype):
    a = p.to(dtype).clone().requires_grad_()
    b = p.to(dtype).clone().requires_grad_()
    value = loss(a, b)
    value.backward()
    assert value.isfinite()
    assert a.grad.isfinite().all()
    assert b.grad.isfinite().all()


def test_an_empty_cluster_has_no_runaway_gradient():
    p = torch.eye(4)[:3].repeat(4, 1).requires_grad_()
    (cluster_loss(p, p.detach()) + balance_loss(p)).backward()
    assert p.grad.abs().max() < 1e4
