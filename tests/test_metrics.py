"""In: two labellings. Out: the scores agree with brute force and with what they promise."""

from itertools import permutations

import numpy as np
import pytest

from mfavbs.metrics import accuracy, purity, score


def accuracy_by_brute_force(true, pred):
    """Try every one-to-one match; classes that no cluster is left for match nothing."""
    classes, clusters = list(np.unique(true)), list(np.unique(pred))
    targets = classes + [None] * max(len(clusters) - len(classes), 0)
    best = 0
    for match in permutations(targets, len(clusters)):
        named = dict(zip(clusters, match))
        best = max(best, sum(named[p] == t for t, p in zip(true, pred)))
    return best / len(true)


@pytest.mark.parametrize(("classes", "clusters"), [(1, 1), (2, 2), (4, 4), (3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_against_brute_force(classes, clusters, seed):
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(classes, size=30), rng.integers(clusters, size=30)
    expected = accuracy_by_brute_force(true.tolist(), pred.tolist())
    assert accuracy(true, pred) == pytest.approx(expected)


def test_perfect_whatever_the_clusters_are_called():
    true = ["cat", "cat", "dog", "bird", "dog"]
    assert score(true, [7, 7, 0, 3, 0]) == pytest.approx({"acc": 1, "nmi": 1, "ari": 1})
    assert score(true, np.array(list("aabcb"))) == pytest.approx({"acc": 1, "nmi": 1, "ari": 1})


def test_surplus_clusters_count_as_wrong():
    assert accuracy([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]) == pytest.approx(4 / 6)
    assert accuracy([0] * 6, range(6)) == pytest.approx(1 / 6)


def test_purity_lets_a_class_have_several_clusters():
    assert purity([0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2]) == 1
    assert purity(list("aab"), [5, 5, 5]) == pytest.approx(2 / 3)
    assert purity([0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1]) == pytest.approx(2 / 6)
    true, pred = np.random.default_rng(0).integers(4, size=(2, 60))
    assert accuracy(true, pred) <= purity(true, pred) <= 1


def test_one_cluster_gets_the_largest_class():
    scores = score([0, 0, 0, 1, 1, 2], [5] * 6)
    assert scores["acc"] == pytest.approx(0.5)
    assert scores["nmi"] == pytest.approx(0)
    assert scores["ari"] == pytest.approx(0)


def test_scores_are_plain_floats_and_the_order_of_rows_is_nothing():
    rng = np.random.default_rng(0)
    true, pred = rng.integers(4, size=50), rng.integers(4, size=50)
    order = rng.permutation(50)
    scores = score(true, pred)
    assert list(scores) == ["acc", "nmi", "ari"]
    assert all(type(value) is float for value in scores.values())
    assert score(true[order], pred[order]) == pytest.approx(scores)


def test_labellings_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"same length|inconsistent"):
        score([0, 1, 1], [0, 1])
