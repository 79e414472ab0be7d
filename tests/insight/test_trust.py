"""Trust: refits of the heads, agreement of images, stability of clusters."""

import numpy as np
import pytest

from mfavbs.insight import agreement, cluster_stability, heads_say, refit_heads


def on_sphere(k, n, d=16, noise=0.05, seed=0):
    """(n, d) of unit length around k orthogonal directions, and which."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(d, d)))[0][:k]
    labels = np.arange(n) % k
    points = centres[labels] + noise * rng.normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), labels


def refits_of(points, labels, k, n_refits, seed=0):
    return heads_say(points, refit_heads(points, labels, k, seed, n_refits))


def test_clear_groups_come_back_in_every_refit_under_their_numbers():
    points, labels = on_sphere(4, 200)
    labels = (labels + 2) % 4
    refits = refits_of(points, labels, 4, 5)
    assert (refits == labels).all()
    assert agreement(labels, refits).tolist() == [1.0] * 200
    assert cluster_stability(labels, refits, 4).tolist() == [1.0] * 4


def test_a_cut_through_one_group_is_less_stable_than_the_groups():
    points, groups = on_sphere(3, 300)
    halves = np.random.default_rng(1).random(300) < 0.5
    labels = np.where((groups == 2) & halves, 3, groups)  # the third group is cut in two
    refits = refits_of(points, labels, 4, 10)
    stability = cluster_stability(labels, refits, 4)
    assert stability[:2].min() > stability[2:].max() + 0.2
    trust = agreement(labels, refits)
    assert trust[groups < 2].mean() > trust[groups == 2].mean() + 0.2


def test_stability_is_the_mean_of_the_best_jaccard_index():
    labels = np.array([0, 0, 0, 1, 1, 2])
    refits = np.array([[0, 0, 1, 1, 1, 2], [2, 2, 2, 1, 1, 0]])
    found = cluster_stability(labels, refits, 4)
    assert found == pytest.approx([(2 / 3 + 1) / 2, (2 / 3 + 1) / 2, 1, 0])


def test_the_same_seed_gives_the_same_refits():
    points, labels = on_sphere(3, 60, noise=0.5)
    one, two = (refits_of(points, labels, 3, 3, seed=4) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("n", [2, 3])
def test_as_few_images_as_clusters(n):
    points, labels = on_sphere(n, n)
    assert refits_of(points, labels, n, 3).shape == (3, n)


def test_images_that_are_all_the_same():
    points = np.ones((20, 4), np.float32) / 2
    refits = refits_of(points, np.zeros(20, int), 3, 3)
    assert (refits == refits[:, :1]).all()


def test_a_centre_that_a_refit_lacks_is_nobodys_nearest():
    points = -np.eye(3, dtype=np.float32)
    centres = np.stack([np.eye(3), np.zeros((3, 3))])[:, :2].astype(np.float16)
    centres[1, 0] = [1, 0, 0]
    assert heads_say(points, centres)[1].tolist() == [0, 0, 0]
