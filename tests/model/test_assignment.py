"""In: networks and probabilities. Out: labels that do not depend on the company."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feature_blobs import blobs, small_network

from mfavbs.model import assignment
from mfavbs.model.assignment import assign, average_with_neighbours, decide
from mfavbs.model.neighbours import Neighbourhood


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
    monkeypatch.setattr(assignment, "_CHUNK", chunk)
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


def test_averaged_neighbours_outvote_an_error_and_are_outvoted_by_no_one_else():
    cluster = torch.arange(20) % 2
    representations = torch.eye(2)[cluster]
    p = torch.eye(2)[cluster].clone()
    p[0] = torch.tensor([0.3, 0.7])  # one error among ten that are alike
    found = average_with_neighbours(
        p[None], representations, p[None], Neighbourhood(representations)
    )
    assert found.shape == (1, 20, 2)
    torch.testing.assert_close(found.sum(-1), torch.ones(1, 20))
    assert found[0].argmax(-1).tolist() == cluster.tolist()


def test_averaging_with_a_single_kept_image():
    p, r = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.eye(2)
    found = average_with_neighbours(p, r, p[:, :1], Neighbourhood(r[:1]))
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))


def test_a_cluster_of_two_is_not_outvoted():
    cluster = torch.arange(16) // 2
    p = torch.eye(8)[cluster][None] * 0.93 + 0.07 / 8
    representations = F.normalize(torch.eye(8)[cluster] + 0.5, dim=-1)
    found = average_with_neighbours(p, representations, p, Neighbourhood(representations))
    assert found[0].argmax(-1).tolist() == cluster.tolist()


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
