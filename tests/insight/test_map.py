"""The map of blobs: where they are, and that it is the same each time."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mfavbs.insight import map_images


def blobs(n, k, d=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, d))
    labels = rng.integers(0, k, n)
    x = centres[labels] + 0.3 * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def test_images_of_a_blob_lie_together_placed_ones_too():
    x, labels = blobs(600, 5)
    points = map_images(x, fitted=300, steps=300)
    assert points.dtype == np.float32
    assert points.shape == (600, 2)
    assert np.abs(points).max() == pytest.approx(1)
    near = KNeighborsClassifier(10).fit(points[:300], labels[:300])
    assert near.score(points[300:], labels[300:]) > 0.98


def test_the_same_seed_gives_the_same_bytes():
    x, _ = blobs(120, 3)
    first, again = (map_images(x, seed=3, fitted=80, steps=250) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != map_images(x, seed=4, fitted=80, steps=250).tobytes()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 9])
def test_few_images_and_equal_ones_have_a_place(n):
    x, _ = blobs(max(n, 1), 2)
    for rows in (x[:n], np.repeat(x[:1], n, axis=0)):
        points = map_images(rows)
        assert points.shape == (n, 2)
        assert np.isfinite(points).all()
