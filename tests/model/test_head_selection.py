"""In: the heads' probabilities and embeddings. Out: the head that a linear rule predicts best."""

import torch
import torch.nn.functional as F

from mfavbs.model.head_selection import choose_head, leave_one_out_ridge_error


def test_the_ridge_error_is_what_leaving_one_out_finds():
    torch.manual_seed(0)
    x = torch.randn(40, 5)
    labels = (x[:, 0] + 0.5 * torch.randn(40) > 0).long() + (x[:, 1] > 0.5).long()
    y, alpha = F.one_hot(labels, 3).double(), float((x - x.mean(0)).square().sum() / 5)
    left = torch.zeros(40, 3, dtype=torch.float64)
    for i in range(40):  # as slow as it is plain: fitted on the others, with a free intercept
        others = torch.arange(40) != i
        design = torch.cat([x.double(), torch.ones(40, 1)], 1)
        penalty = alpha * torch.eye(6, dtype=torch.float64)
        penalty[5, 5] = 0
        gram = design[others].T @ design[others] + penalty
        weight = torch.linalg.solve(gram, design[others].T @ y[others])
        left[i] = y[i] - design[i] @ weight
    elsewhere = ((y - left).argmax(-1) != labels).double().mean()
    assert 0 < elsewhere < 0.5
    shares = left.square().sum(0) / (y - y.mean(0)).square().sum(0)
    expected = shares.mean() + 0.25 * elsewhere
    found = leave_one_out_ridge_error(F.one_hot(labels, 3).float()[None], x)
    torch.testing.assert_close(found, expected.float()[None])


def test_the_ridge_error_ranks_the_heads():
    generator = torch.Generator().manual_seed(0)
    cluster = torch.arange(80) % 4
    x = F.normalize(torch.eye(4)[cluster] + 0.05 * torch.randn(80, 4, generator=generator), dim=-1)
    apart = torch.eye(4)[cluster]
    arbitrary = torch.eye(4)[torch.arange(80) // 20]  # balanced, and across the groups
    merged = torch.eye(4)[cluster.clamp_max(2)]  # of one cluster nothing is left
    collapsed = torch.eye(4)[torch.zeros(80, dtype=torch.int64)]
    heads = torch.stack([apart, arbitrary, merged, collapsed, apart[:, [2, 0, 3, 1]]])
    found = leave_one_out_ridge_error(heads, x)
    torch.testing.assert_close(found[0], found[4])
    assert found[0] < found[2] < found[1]
    assert found[0] < found[3] == 1  # each cluster is empty, or all there is
    assert found.isfinite().all()


def test_the_head_that_is_balanced_and_predicted_is_chosen():
    cluster = torch.arange(40) % 4
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.eye(4)[cluster] + 0.05 * torch.randn(40, 4, generator=generator), dim=-1)
    arbitrary = torch.eye(4)[torch.arange(40) // 10]
    collapsed = torch.eye(4)[torch.zeros(40, dtype=torch.int64)]
    heads = torch.stack([arbitrary, collapsed, torch.eye(4)[cluster]])
    assert choose_head(heads, x, 0.4) == 2
    assert choose_head(heads[[2, 1, 0]], x, 0.4) == 0


def test_of_two_heads_predicted_alike_the_weight_says_whether_the_balanced_one_is_chosen():
    x = torch.eye(4)[torch.arange(40) % 4]  # every partition of the four points is predicted
    uneven = torch.eye(2)[(torch.arange(40) % 4).clamp_max(1)]
    even = torch.eye(2)[torch.arange(40) % 2]
    assert choose_head(torch.stack([uneven, even]), x, 1.0) == 1
    ridge_error = leave_one_out_ridge_error(torch.stack([uneven, even]), x)
    assert choose_head(torch.stack([uneven, even]), x, 0.0) == int(ridge_error.argmin())


def test_the_ridge_error_of_few_images_and_of_images_all_alike():
    p = torch.eye(2)[torch.arange(3) % 2][None]
    assert leave_one_out_ridge_error(p, F.normalize(torch.randn(3, 64), dim=-1)).isfinite().all()
    assert leave_one_out_ridge_error(p, torch.ones(3, 64) / 8).isfinite().all()
