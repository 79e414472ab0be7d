"""Whether new images as a whole differ from the run's."""

import numpy as np
import pytest
from feature_blobs import around as drawn

from mfavbs.insight import find_drift, two_sample_test


def test_samples_drawn_alike_differ_as_rarely_as_is_said():
    p = [two_sample_test(drawn(60, seed=s), drawn(80, seed=100 + s), seed=s) for s in range(60)]
    assert np.mean(np.array(p) <= 0.1) < 0.25
    assert 0.3 < np.mean(p) < 0.7


def test_a_part_of_another_kind_is_seen():
    new = np.concatenate([drawn(80, seed=1), drawn(20, centre=4, seed=2)])
    assert two_sample_test(new, drawn(100)) == 0.001


def test_more_images_than_are_compared():
    assert two_sample_test(drawn(2500, seed=1), drawn(3000)) > 0.01


@pytest.mark.parametrize("new", [drawn(1), np.ones((5, 4), np.float32) / 2])
def test_images_that_say_nothing(new):
    assert two_sample_test(new, np.ones((5, new.shape[1]), np.float32) / 2) <= 1


def test_what_differs_is_named_the_largest_difference_first():
    before = np.repeat([0, 1, 2, 3], 100)
    now = np.repeat([0, 1, 2, 3], [40, 45, 0, 115])
    features = drawn(400)
    found = find_drift(features[:200], features, now, before, np.linspace(0.005, 1, 200), 5)
    assert list(found["clusters"]) == ["3", "2"]
    assert found["clusters"]["3"] == [0.575, 0.25]
    assert found["strange"] == pytest.approx(0.05, abs=0.01)
    assert found["n"] == 200
