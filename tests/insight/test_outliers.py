"""Oddness, on directions drawn around a few centres."""

import numpy as np
import pytest

from mfavbs.insight import choose_others, find_outliers, oddness, p_values


def groups(sizes, dim=32, seed=0, spread=0.5):
    """Unit vectors (n, dim) in groups of these sizes, at right angles, and their groups."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    noise = spread * rng.normal(size=(len(labels), dim)) / dim**0.5
    return unit(np.eye(dim)[labels] + noise), labels


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def asked(x, k):
    others = choose_others(x, k)
    return oddness(x, others, np.arange(len(x))), others


def test_the_oddest_are_those_alone_and_a_group_much_smaller_than_a_cluster():
    x, labels = groups([200, 200, 200, 15, 1, 1, 1])
    odd, _ = asked(x, 3)
    oddest = np.argsort(-odd.max(0))[:18]
    assert set(oddest) == set(np.flatnonzero(labels >= 3))


def test_a_loose_member_of_a_dense_group_is_odd_as_well():
    x, _ = groups([300, 300], spread=0.2)
    x[0] = unit((x[1] + 0.1 * np.random.default_rng(1).normal(size=32))[None])[0]
    odd, _ = asked(x, 2)
    assert odd[1].argmax() == 0


def test_oddness_is_by_directions_and_not_by_their_order():
    x, _ = groups([80, 80, 5])
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(32, 32)))[0].astype(np.float32)
    order = np.random.default_rng(3).permutation(len(x))
    odd, _ = asked(x, 2)
    turned, _ = asked((x @ turn)[order], 2)
    assert turned == pytest.approx(odd[:, order], abs=1e-3)


def test_a_new_image_is_as_odd_as_the_same_one_of_the_run_would_be():
    x, _ = groups([100, 100, 1])
    others = choose_others(x[:-1], 2)
    alone = oddness(x[-1:], others)
    assert (alone > oddness(x[:-1], others, np.arange(200))).all(axis=1)[0]


def test_p_values_of_new_images_are_uniform_where_these_are_like_the_run():
    x, _ = groups([1500, 1500, 1500], spread=2)
    order = np.random.default_rng(0).permutation(len(x))
    run, new = x[order[:2500]], x[order[2500:]]
    others = choose_others(run, 3)
    of_run = oddness(run, others, np.arange(len(run))).max(0)
    p = p_values(oddness(new, others).max(0), of_run)
    for rate in (0.01, 0.05, 0.2, 0.5):
        assert (p <= rate).mean() == pytest.approx(rate, abs=3 * (rate / 2000) ** 0.5 + 0.005)


def test_p_values_count_the_run_s_images_that_are_as_odd():
    assert p_values(np.array([3.0, 1.0, 2.0, 3.0])).tolist() == [0.5, 1.0, 0.75, 0.5]
    assert p_values(np.array([5.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist() == [0.25, 1.0]


def test_outliers_are_the_few_that_no_cluster_is_near():
    x, labels = groups([200, 200, 200, *[1] * 10])
    odd, others = asked(x, 3)
    rows, apart = find_outliers(odd, x, others, labels.clip(max=2))
    assert set(rows) <= set(range(600, 610))
    assert len(rows) >= 5
    assert apart == []


def test_never_more_than_a_few_are_outliers():
    x = unit(np.random.default_rng(0).normal(size=(500, 32)))  # each fits nowhere
    odd, others = asked(x, 4)
    rows, _ = find_outliers(odd, x, others, np.arange(500) % 4)
    assert len(rows) <= 10


def test_a_small_cluster_far_from_others_stands_apart_as_a_whole():
    x, labels = groups([300, 300, 20])
    odd, others = asked(x, 3)
    rows, apart = find_outliers(odd, x, others, labels)
    assert apart == [2]
    assert not set(rows) & set(range(600, 620))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_few_images_and_copies_of_one_have_no_outliers(n):
    x = unit(np.ones((n, 8)))
    odd, others = asked(x, 2)
    assert np.isfinite(odd).all()
    assert p_values(odd.max(0)).tolist() == [1.0] * n
    rows, _ = find_outliers(odd, x, others, np.arange(n) % 2)
    assert len(rows) == 0


def test_more_images_than_are_compared_with_are_judged_alike(monkeypatch):
    x, _ = groups([400, 400, 400, 20])
    odd, _ = asked(x, 3)
    monkeypatch.setattr("mfavbs.insight.outliers._ROWS", 300)
    fewer, others = asked(x, 3)
    assert len(others.rows) == 300
    assert set(np.argsort(-fewer[0])[:20]) == set(np.argsort(-odd[0])[:20])
