"""In: networks and probabilities. Out: labels that do not depend on the company."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feature_blobs import blobs, small_network

from mfavbs.model import labels
from mfavbs.model.labels import assign, choose_head, consult, decide, unpredictability


@pytest.fixture
def network_and_tokens():
    return small_network(blobs(40, n_views=3, n_tokens=2)[0])


def test_probabilities_of_every_head_and_unit_representations(network_and_tokens):
    p, r = assign(*network_and_tokens)
    assert p.shape == (2, 40, 3)
    assert p.min() >= 0
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 40))
    assert r.shape == (40, 8)
    torch.testing.assert_close(r.norm(dim=-1), torch.ones(40))


@pytest.mark.parametrize("chunk", [1, 7, 39])
def test_the_chunk_makes_no_difference(network_and_tokens, chunk, monkeypatch):
    expected = assign(*network_and_tokens)
    monkeypatch.setattr(labels, "_CHUNK", chunk)
    torch.testing.assert_close(assign(*network_and_tokens), expected, atol=1e-5, rtol=1e-4)


def test_an_image_does_not_depend_on_those_asked_for_with_it(network_and_tokens):
    network, tokens = network_and_tokens
    p, r = assign(network, tokens)
    rows = torch.tensor([31, 4, 4, 17])
    some_p, some_r = assign(network, tokens[rows])
    torch.testing.assert_close(some_p, p[:, rows], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(some_r, r[rows], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_views", [1, 2, 8])
def test_any_number_of_views(network_and_tokens, n_views):
    network, tokens = network_and_tokens
    p, _ = assign(network, tokens[:5, torch.arange(n_views) % 3])
    assert p.shape == (2, 5, 3)
    assert p.isfinite().all()


def test_nothing_is_left_behind(network_and_tokens):
    network, tokens = network_and_tokens
    before = {name: value.clone() for name, value in network.state_dict().items()}
    p, _ = assign(network, tokens)
    assert not p.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_consulted_neighbours_outvote_an_error_and_are_outvoted_by_no_one_else():
    cluster = torch.arange(20) % 2
    representations = torch.eye(2)[cluster]
    p = torch.eye(2)[cluster].clone()
    p[0] = torch.tensor([0.3, 0.7])  # one error among ten that are alike
    found = consult(p[None], representations, p[None], representations)
    assert found.shape == (1, 20, 2)
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 20))
    assert found[0].argmax(-1).tolist() == cluster.tolist()


def test_consulting_a_single_kept_image():
    p, r = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.eye(2)
    found = consult(p, r, p[:, :1], r[:1])
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))


def test_a_cluster_of_two_is_not_outvoted():
    cluster = torch.arange(16) // 2
    p = torch.eye(8)[cluster][None] * 0.93 + 0.07 / 8
    representations = F.normalize(torch.eye(8)[cluster] + 0.5, dim=-1)
    found = consult(p, representations, p, representations)
    assert found[0].argmax(-1).tolist() == cluster.tolist()


def test_unpredictability_is_what_leaving_one_out_finds():
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
    found = unpredictability(F.one_hot(labels, 3).float()[None], x)
    torch.testing.assert_close(found, expected.float()[None])


def test_unpredictability_ranks_the_heads():
    generator = torch.Generator().manual_seed(0)
    cluster = torch.arange(80) % 4
    x = F.normalize(torch.eye(4)[cluster] + 0.05 * torch.randn(80, 4, generator=generator), dim=-1)
    apart = torch.eye(4)[cluster]
    arbitrary = torch.eye(4)[torch.arange(80) // 20]  # balanced, and across the groups
    merged = torch.eye(4)[cluster.clamp_max(2)]  # of one cluster nothing is left
    collapsed = torch.eye(4)[torch.zeros(80, dtype=torch.int64)]
    heads = torch.stack([apart, arbitrary, merged, collapsed, apart[:, [2, 0, 3, 1]]])
    found = unpredictability(heads, x)
    torch.testing.assert_close(found[0], found[4])
    assert found[0] < found[2] < found[1]
    assert found[0] < found[3] == 1  # each cluster is empty, or all there is
    assert found.isfinite().all()


def test_the_head_that_is_balanced_and_foretold_is_chosen():
    cluster = torch.arange(40) % 4
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.eye(4)[cluster] + 0.05 * torch.randn(40, 4, generator=generator), dim=-1)
    arbitrary = torch.eye(4)[torch.arange(40) // 10]
    collapsed = torch.eye(4)[torch.zeros(40, dtype=torch.int64)]
    heads = torch.stack([arbitrary, collapsed, torch.eye(4)[cluster]])
    assert choose_head(heads, x, 0.4) == 2
    assert choose_head(heads[[2, 1, 0]], x, 0.4) == 0


def test_of_two_heads_foretold_alike_the_weight_says_whether_the_balanced_one_is_chosen():
    x = torch.eye(4)[torch.arange(40) % 4]  # every partition of the four points is foretold
    uneven = torch.eye(2)[(torch.arange(40) % 4).clamp_max(1)]
    even = torch.eye(2)[torch.arange(40) % 2]
    assert choose_head(torch.stack([uneven, even]), x, 1.0) == 1
    foretold = unpredictability(torch.stack([uneven, even]), x)
    assert choose_head(torch.stack([uneven, even]), x, 0.0) == int(foretold.argmin())


def test_unpredictability_of_few_images_and_of_images_all_alike():
    p = torch.eye(2)[torch.arange(3) % 2][None]
    assert unpredictability(p, F.normalize(torch.randn(3, 64), dim=-1)).isfinite().all()
    assert unpredictability(p, torch.ones(3, 64) / 8).isfinite().all()


def test_decide_takes_the_most_probable():
    p = np.array([[0.2, 0.8, 0.0], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, confidences = decide(p)
    assert found.tolist() == [1, 0, 2]
    assert found.dtype == np.int64
    assert confidences.tolist() == [0.8, 0.6, 0.7]


def test_a_tie_goes_to_the_first_with_the_least_confidence():
    with pytest.warns(UserWarning, match="stayed empty"):
        found, confidences = decide(np.full((5, 4), 0.25))
    assert found.tolist() == [0] * 5
    assert confidences.tolist() == [0.25] * 5


@pytest.mark.parametrize("used", [1, 2, 3])
def test_empty_clusters_are_counted_in_the_warning(used):
    p = np.eye(4)[np.arange(12) % used]
    with pytest.warns(UserWarning, match=f"Only {used} of n_clusters=4"):
        decide(p)
