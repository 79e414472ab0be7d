"""The chance of the same cluster in a refit."""

import numpy as np
import pytest

from mfavbs.insight import chance_of_same_cluster


def sure(*own, k=3):
    """Probabilities (n, k) of cluster 0, the rest evenly among the others."""
    p = np.array(own)[:, None]
    return np.c_[p, np.repeat((1 - p) / (k - 1), k - 1, axis=1)]


def test_it_grows_with_all_that_speaks_for_it():
    share, none = np.linspace(0, 1, 5), np.zeros(5, int)
    alike = np.full(5, 0.9)
    for chance in (
        chance_of_same_cluster(none, sure(*alike), share, 20, 0.8),
        chance_of_same_cluster(none, sure(0.4, 0.6, 0.8, 0.9, 0.99), alike, 20, 0.8),
        [chance_of_same_cluster(none, sure(*alike), alike, 20, m)[0] for m in (0.2, 0.5, 0.9, 1)],
    ):
        assert (np.diff(chance) > 0).all()
        assert 0 < min(chance) < max(chance) < 1


def test_all_refits_of_a_clear_set_agree_nearly_for_sure():
    one, none = np.ones(1), np.zeros(1, int)
    assert chance_of_same_cluster(none, sure(1.0), one, 20, 1.0) > 0.99
    assert chance_of_same_cluster(none, sure(0.34), 0 * one, 20, 0.4) < 0.1


def test_the_same_probability_says_more_among_more_clusters():
    few, many = (
        chance_of_same_cluster(np.zeros(1, int), sure(0.6, k=k), np.ones(1), 20, 0.9)
        for k in (3, 100)
    )
    assert many > few


def test_a_label_that_is_not_the_likeliest_is_sure_of_less():
    p = np.array([[0.7, 0.2, 0.1]] * 2)
    likeliest, other = chance_of_same_cluster(np.array([0, 1]), p, np.full(2, 0.5), 20, 0.8)
    assert other < likeliest


def test_nothing_comes_of_nothing():
    none = np.empty(0, int)
    found = chance_of_same_cluster(none, np.empty((0, 3)), np.empty(0), 20, 1.0)
    assert found.shape == (0,)
    assert found.dtype == np.float32


@pytest.mark.parametrize("k", [2, 1000])
def test_a_chance_is_one_for_the_surest_and_the_least_sure(k):
    p = np.zeros((2, k), np.float32)
    p[0, 0], p[1, 1] = 1, 1
    found = chance_of_same_cluster(np.zeros(2, int), p, np.array([1.0, 0.0]), 20, 0.5)
    assert np.isfinite(found).all()
    assert found[0] > 0.9
    assert found[1] < 0.1
