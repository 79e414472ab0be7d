"""Typical and different images, of points on a circle."""

import numpy as np
import pytest

from mfavbs.insight import different_images, typical_images


def on_a_circle(degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_typical_images_are_nearest_to_the_mean_direction():
    x = on_a_circle([0, 10, 20, 30, 40, 180, 200, 190])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    first, second, none = typical_images(x, labels, 3, 3)
    assert first[0] == 2
    assert set(first.tolist()) == {1, 2, 3}
    assert second.tolist()[0] == 7
    assert none.size == 0


def test_different_images_are_the_edges_first():
    x = on_a_circle([0, 1, 2, 3, 4, 90])
    labels = np.zeros(6, int)
    (rows,) = different_images(x, labels, 1, 2)
    assert rows.tolist() == [5, 0]


def test_copies_are_shown_when_there_is_nothing_else():
    x = on_a_circle([0, 0, 0, 0, 20])
    labels = np.zeros(5, int)
    (rows,) = typical_images(x, labels, 1, 2)
    assert rows.tolist() == [0, 4]
    (rows,) = typical_images(x, labels, 1, 4)
    assert rows.tolist() == [0, 4, 1, 2]
    (rows,) = different_images(x, labels, 1, 4)
    assert rows.tolist() == [4]


@pytest.mark.parametrize("function", [typical_images, different_images])
def test_every_cluster_gets_its_own_rows(function):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = rng.integers(0, 20, 500)
    shown = function(x, labels, 20, 4)
    assert [len(rows) for rows in shown] == [4] * 20
    for cluster, rows in enumerate(shown):
        assert (labels[rows] == cluster).all()
        assert len(set(rows.tolist())) == 4
