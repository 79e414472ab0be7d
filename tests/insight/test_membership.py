"""Whether a new image belongs to the run's."""

import numpy as np
import pytest
from feature_blobs import around as drawn
from scipy.stats import kstest
from sklearn.neighbors import NearestNeighbors

from mfavbs.insight import choose_rows, make_reference, p_values, strangeness


def test_p_values_of_images_drawn_alike_are_uniform():
    reference = make_reference(drawn(1500), np.zeros(1500, int))
    p = p_values(strangeness(drawn(600, seed=1), reference), reference.strangeness)
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.03 < (p <= 0.05).mean() < 0.07


def test_what_the_run_has_none_of_is_strange():
    reference = make_reference(drawn(500, noise=0.1), np.zeros(500, int))
    new = drawn(50, centre=3, seed=1, noise=0.1)
    p = p_values(strangeness(new, reference), reference.strangeness)
    assert p.max() < 0.01


def test_a_copy_of_an_image_of_the_run_is_not():
    points = drawn(300)
    reference = make_reference(points, np.zeros(300, int))
    new = p_values(strangeness(points, reference), reference.strangeness)
    own = p_values(reference.strangeness)
    assert (new >= own - 0.02).all()


def test_it_is_what_scikit_learns_neighbours_say():
    points, new = drawn(200), drawn(20, seed=1)
    found = strangeness(new, make_reference(points, np.zeros(200, int)))
    search = NearestNeighbors(metric="cosine").fit(points.astype(np.float16))
    own = search.kneighbors(n_neighbors=5)[0].mean(1)
    distances, nearest = search.kneighbors(new, n_neighbors=10)
    expected = np.log(distances[:, :5].mean(1)) - np.log(own[nearest].mean(1)) / 2
    assert found == pytest.approx(expected, abs=1e-2)


def test_an_image_of_the_run_is_as_strange_as_if_it_were_new():
    points = drawn(60)
    found = make_reference(points, np.zeros(60, int)).strangeness
    for row in range(0, 60, 7):
        rest = make_reference(np.delete(points, row, axis=0), np.zeros(59, int))
        expected = strangeness(points[[row]].astype(np.float16), rest)
        assert found[row] == pytest.approx(expected[0], abs=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_a_handful_nothing_can_be_said(n):
    reference = make_reference(drawn(n), np.zeros(n, int))
    p = p_values(strangeness(drawn(4, centre=1, seed=2), reference), reference.strangeness)
    assert (p >= 1 / (n + 1)).all()


def test_a_sample_is_spread_over_all():
    rows = choose_rows(1_000_000)
    assert len(rows) == 5_000
    assert rows[0] == 0
    assert rows[-1] == 999_999
    assert choose_rows(3).tolist() == [0, 1, 2]
