"""In: features. Out: what the losses contrast, and what new images are answered with."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feature_blobs import blobs, small_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from mfavbs.model import network as network_module
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import Network, _partitions, mean_view


@pytest.mark.parametrize(("n", "v", "t", "f"), [(20, 1, 1, 12), (20, 3, 5, 12), (2, 2, 1, 4)])
def test_shapes_from_features_to_logits(n, v, t, f):
    features, _ = blobs(n, v, t, f, k=2)
    network, tokens = small_network(features, k=4, n_cluster_heads=3, dim=8)
    assert tokens.shape == (n, v, t, 8)
    assert tokens.dtype == torch.float32
    halves = network(tokens[:, 0], tokens[:, -1])
    for half in halves:
        assert half.shape == (n, 8)
        assert len(network.instance_head(half)) == n
        logits = network.cluster_heads(half)
        assert logits.shape == (3, n, 4)
        assert logits.isfinite().all()


def test_what_a_network_says_of_itself():
    network, _ = small_network(blobs(20, 2, 5, 12)[0], dim=8)
    assert (network.n_tokens, network.n_features, network.width) == (5, 12, 8)
    assert network.device == torch.device("cpu")
    assert network.n_kept == 0
    network.keep(torch.rand(7, 3), torch.rand(7, 8))
    assert network.n_kept == 7


def test_some_rows_are_projected_as_all_are():
    features, _ = blobs(30)
    network, tokens = small_network(features)
    torch.testing.assert_close(network.project(features, np.array([5, 2, 5])), tokens[[5, 2, 5]])


def test_the_length_of_a_feature_is_nothing():
    features, _ = blobs(30)
    lengths = np.random.default_rng(0).uniform(0.1, 10, (30, 2, 1, 1)).astype(np.float32)
    torch.testing.assert_close(
        small_network(features * lengths)[1], small_network(features)[1], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_the_chunk_makes_no_difference(chunk, monkeypatch):
    features, _ = blobs(30)
    network, tokens = small_network(features)
    monkeypatch.setattr(network_module, "_CHUNK", chunk)
    torch.testing.assert_close(network.project(features), tokens)


def test_new_images_are_projected_as_the_fitted_ones():
    features, _ = blobs(30)
    network, tokens = small_network(features)
    torch.testing.assert_close(network.project(features[[5, 2]]), tokens[[5, 2]])


def test_half_precision_features_on_disk_are_read_as_they_are(tmp_path):
    features, _ = blobs(30)
    np.save(tmp_path / "features.npy", features.astype(np.float16))
    stored = np.load(tmp_path / "features.npy", mmap_mode="r")
    from_disk, from_memory = small_network(stored)[1], small_network(features)[1]
    assert from_disk.dtype == torch.float32
    assert F.cosine_similarity(from_disk, from_memory, dim=-1).min() > 0.999


@pytest.mark.parametrize("value", [0, 1])
def test_images_that_are_all_alike_stay_finite(value):
    features = np.full((10, 2, 3, 6), value, np.float32)
    network, tokens = small_network(features)
    assert tokens.isfinite().all()
    assert mean_view(tokens).isfinite().all()
    assert all(x.isfinite().all() for x in network(tokens[:, 0], tokens[:, 1]))


def test_mean_view_is_the_mean_direction_of_the_pooled_tokens():
    tokens = torch.randn(5, 3, 2, 8, generator=torch.Generator().manual_seed(0))
    x = mean_view(tokens)
    assert x.shape == (5, 8)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(mean_view(tokens[:, :1]), F.normalize(tokens[:, 0, 0], dim=-1))
    torch.testing.assert_close(mean_view(tokens[:, [2, 0, 1]]), x)
    lengths = torch.tensor([1.0, 5.0, 0.2, 2.0, 0.5])[:, None, None, None]
    torch.testing.assert_close(mean_view(tokens * lengths), x)
    tokens[:, :, 1] = 0
    torch.testing.assert_close(mean_view(tokens), x)


def test_a_network_with_its_bank_is_all_in_its_state():
    features, _ = blobs(30)
    network, tokens = small_network(features)
    network.keep(torch.rand(30, 3), torch.rand(30, 8))
    other = Network(12, 1, 3, n_cluster_heads=2, dim=8, n_heads=2, gate=0.05)
    other.make_room(30)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other.project(features), tokens)
    for name in ("bank_probabilities", "bank_representations"):
        assert getattr(network, name).any()
        assert torch.equal(getattr(other, name), getattr(network, name))
    pair = tokens[:, 0], tokens[:, 1]
    assert all(torch.equal(x, y) for x, y in zip(network(*pair), other(*pair)))


def test_the_projection_is_not_trained():
    network, tokens = small_network(blobs(30)[0])
    trained = {name for name, _ in network.named_parameters()}
    assert trained.isdisjoint({"mean", "components", "bank_representations"})
    assert not tokens.requires_grad


def test_partitions_are_the_best_first_and_no_two_the_same():
    points = load_digits().data[:400].astype(np.float32)
    found = [labels.numpy() for labels in _partitions(torch.from_numpy(points), 8, 6, seed=0)]
    assert 2 <= len(found) <= 6
    inertia = [
        sum(np.square(points[labels == c] - points[labels == c].mean(0)).sum() for c in range(8))
        for labels in found
    ]
    assert inertia == sorted(inertia)
    for one, other in itertools.combinations(found, 2):
        assert adjusted_rand_score(one, other) < 0.95


def test_heads_start_as_the_partitions():
    features, labels = blobs(60, k=3)
    network, tokens = small_network(features, k=3, n_cluster_heads=4)
    embeddings = mean_view(tokens)
    network.start_heads(embeddings, nearest_neighbours(embeddings, 5), seed=0)
    first, *others = network.cluster_heads(embeddings).argmax(-1).numpy()  # (60,) each
    assert adjusted_rand_score(labels, first) == 1
    assert len(others) == 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_images_all_alike_start_heads_that_are_finite():
    network, _ = small_network(np.ones((10, 1, 1, 6), np.float32), k=3, n_cluster_heads=4)
    embeddings = F.normalize(torch.ones(10, 8), dim=-1)
    network.start_heads(embeddings, torch.arange(10).roll(1)[:, None], seed=0)
    assert network.cluster_heads(embeddings).isfinite().all()


def test_too_few_distinct_points_are_said_once():
    points = np.repeat(np.eye(2, dtype=np.float32), 5, 0)
    with pytest.warns(ConvergenceWarning) as caught:
        found = _partitions(torch.from_numpy(points), 4, 8, seed=0)
    assert len(caught) == 1
    assert "2 distinct" in str(caught[0].message)
    assert [len(labels.unique()) for labels in found] == [2]
