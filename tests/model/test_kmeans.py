"""In: points. Out: k-means as scikit-learn finds it, every start at once."""

import sys

import numpy as np
import pytest
import torch
from feature_blobs import blobs
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from mfavbs.model.kmeans import kmeans, rand_index

module = sys.modules[kmeans.__module__]  # mfavbs.model.kmeans is the function

DIGITS = torch.from_numpy(load_digits().data).float()


def inertia(points, labels):
    return sum(
        (points[labels == c] - points[labels == c].mean(0)).square().sum() for c in labels.unique()
    ).item()


def test_as_good_as_that_of_scikit_learn():
    labels, found = kmeans(DIGITS, 10, 12, seed=0)
    expected = [
        KMeans(10, n_init=1, random_state=i).fit(DIGITS.numpy()).inertia_ for i in range(12)
    ]
    assert found.min() <= 1.001 * min(expected)
    assert found.mean() <= 1.005 * np.mean(expected)
    for label, value in zip(labels, found):
        assert inertia(DIGITS, label) == pytest.approx(value.item(), rel=1e-3)


def test_clear_clusters_are_found_by_every_start():
    points, y = blobs(200, n_views=1, k=5)
    labels, _ = kmeans(torch.from_numpy(points[:, 0, 0]), 5, 6, seed=1)
    assert [adjusted_rand_score(y, label) for label in labels.numpy()] == [1] * 6


def test_a_seed_decides_and_parts_do_not(monkeypatch):
    whole = kmeans(DIGITS, 10, 4, seed=0)
    assert torch.equal(kmeans(DIGITS, 10, 4, seed=0)[0], whole[0])
    assert not torch.equal(kmeans(DIGITS, 10, 4, seed=1)[0], whole[0])
    monkeypatch.setattr(module, "_NUMBERS", 50_000)
    parts = kmeans(DIGITS, 10, 4, seed=0)
    assert torch.allclose(parts[1], whole[1], rtol=1e-4)


def test_sums_by_products_are_those_by_adding():
    """As a GPU and as a CPU make them; a cluster of none keeps its centre."""
    labels = torch.randint(0, 7, (3, len(DIGITS)), generator=torch.Generator().manual_seed(0))
    before = torch.rand(3, 8, 64)
    added = module._means(DIGITS, labels, before)
    multiplied = module._means_by_products(DIGITS, labels, before)
    assert torch.allclose(added, multiplied, atol=1e-4)
    assert torch.equal(added[:, 7], before[:, 7])


@pytest.mark.parametrize(("n", "k"), [(2, 2), (5, 5), (6, 2)])
def test_hardly_more_points_than_clusters(n, k):
    labels, found = kmeans(DIGITS[:n], k, 3, seed=0)
    assert labels.shape == (3, n)
    assert all(len(label.unique()) == k for label in labels)
    assert n > k or (found < 1).all()


def test_points_all_alike():
    labels, found = kmeans(torch.ones(10, 3), 2, 2, seed=0)
    assert labels.shape == (2, 10)
    assert (found == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_rand_index_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, 300), rng.integers(0, 4, 300)
    mixed = np.where(rng.random(300) < 0.7, one, rng.integers(0, 6, 300))
    for a, b in ((one, other), (one, mixed), (one, one), (one * 0, one * 0)):
        expected = adjusted_rand_score(a, b)
        assert rand_index(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected)
