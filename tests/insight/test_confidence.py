"""The chance of the same cluster in a refit."""

import numpy as np

from mfavbs.insight import chance_of_same_cluster


def test_it_grows_with_all_that_speaks_for_it():
    share = np.linspace(0, 1, 5)
    sure = np.full(5, 0.9)
    for chance in (
        chance_of_same_cluster(share, 0.8, sure, 20),
        chance_of_same_cluster(sure, 0.8, share, 20),
        np.array([chance_of_same_cluster(sure, mean, sure, 20)[0] for mean in share]),
    ):
        assert (np.diff(chance) > 0).all()
        assert 0 < chance.min() < chance.max() < 1


def test_all_refits_of_a_clear_set_agree_nearly_for_sure():
    one = np.ones(1)
    assert chance_of_same_cluster(one, 1.0, one, 20) > 0.99
    assert chance_of_same_cluster(0 * one, 0.3, 0.2 * one, 20) < 0.1
