"""In: two clusterings of the same images. Out: which cluster is which, and what became of each."""

import numpy as np
import pytest

from mfavbs.runs import changes, continue_numbers


def told(before, after, k_before=None, k=None):
    k_before, k = k_before or max(before) + 1, k or max(after) + 1
    sizes = np.bincount(before, minlength=k_before), np.bincount(after, minlength=k)
    return changes(np.array(before), np.array(after), *sizes)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_that_were_shuffled_come_back(seed):
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 7, 300)
    shuffled = rng.permutation(7)
    after = shuffled[before]
    assert (continue_numbers(before, after, 7, 7)[after] == before).all()


def test_numbers_are_a_permutation_however_many_clusters_there_are():
    rng = np.random.default_rng(0)
    for k_before, k in ((3, 8), (8, 3), (5, 5), (1, 2)):
        before, after = rng.integers(0, k_before, 50), rng.integers(0, k, 50)
        assert sorted(continue_numbers(before, after, k_before, k)) == list(range(k))


def test_without_a_common_image_numbers_stay():
    none = np.array([], int)
    assert continue_numbers(none, none, 4, 4).tolist() == [0, 1, 2, 3]


def test_the_same_clustering_has_no_change():
    found = told([0, 0, 1, 1, 2], [0, 0, 1, 1, 2])
    assert found["continued"] == {0: 0, 1: 1, 2: 2}
    assert not any(found[name] for name in ("grown", "split", "merged", "vanished", "new"))


def test_a_cluster_that_splits():
    assert told([0] * 10 + [1] * 4, [0] * 4 + [2] * 4 + [1] * 6)["split"] == {0: [0, 2]}


def test_two_clusters_that_merge():
    found = told([0] * 5 + [1] * 5 + [2] * 5, [0] * 10 + [1] * 5)
    assert found["merged"] == {0: [0, 1]}
    assert found["continued"] == {2: 1}


def test_a_cluster_that_vanishes_into_many_and_one_that_is_new():
    before = np.array([0] * 10 + [1] * 20 + [2] * 20 + [3] * 20 + [4] * 20 + [5] * 20)
    after = before.copy()
    after[:10] = [1, 2, 3, 4, 5] * 2
    sizes = np.bincount(before, minlength=6)
    found = changes(before, after, sizes, np.array([9, 22, 22, 22, 22, 22]))
    assert found["vanished"] == [0]
    assert found["new"] == [0]  # nine images that were not there before


def test_a_cluster_that_grew_by_new_images():
    before = after = np.array([0, 0, 1, 1])
    found = changes(before, after, np.array([2, 2]), np.array([2, 5]))
    assert found["grown"] == {1: [2, 5]}
