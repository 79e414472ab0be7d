"""How many clusters there are: the curve, its peak, and what cannot be told."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from mfavbs import MFAVBsClustering
from mfavbs.errors import SourceError
from mfavbs.model import candidates, checked_number, tell_number, weigh_numbers
from mfavbs.model.number import Curve, _silhouette


def groups(k, n=300, dim=32, noise=0.06, seed=0):
    """(n, dim) around k orthogonal directions, and which."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:k]
    labels = np.arange(n) % k
    return (centres[labels] + noise * rng.normal(size=(n, dim))).astype(np.float32), labels


def unit(x):
    return torch.nn.functional.normalize(torch.as_tensor(x, dtype=torch.float32), dim=-1)


@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_clear_groups_are_counted(k):
    told = tell_number(unit(groups(k)[0]), "auto", seed=0)
    assert told["best"] == k
    assert not told["one"]


def test_the_number_does_not_depend_on_the_order_of_the_images():
    points = unit(groups(5, noise=0.1)[0])
    found = {tell_number(points[torch.randperm(300)], "auto", seed)["best"] for seed in range(3)}
    assert found == {5}


def test_a_range_is_kept_to_and_ends_where_the_images_do():
    points = unit(groups(4)[0])
    told = tell_number(points, (6, 20), seed=0)
    assert told["asked"] == [6, 20]
    assert (told["numbers"][0], told["numbers"][-1]) == (6, 20)
    assert told["best"] in range(6, 21)
    assert tell_number(points[:40], (6, 60), seed=0)["numbers"][-1] == 20


def test_a_number_that_was_given_is_weighed_as_well():
    told = tell_number(unit(groups(4)[0]), 33, seed=0)
    assert 33 in told["numbers"]
    assert told["best"] == 4


def test_candidates_are_dense_where_it_matters_and_reach_both_ends():
    assert candidates(2, 9) == [2, 3, 4, 5, 6, 7, 8, 9]
    many = candidates(2, 200)
    assert (many[0], many[-1]) == (2, 200)
    assert len(many) < 40
    assert all(b <= max(a + 1, 1.2 * a) for a, b in itertools.pairwise(many))


def test_the_silhouette_is_that_of_scikit_learn_by_cosine():
    points, labels = groups(4, n=90, noise=0.4)
    labels[0] = 4  # a cluster of one
    expected = silhouette_score(points, labels, metric="cosine")
    found = _silhouette(torch.from_numpy(labels), unit(points), 6)
    assert found == pytest.approx(expected, abs=1e-5)


def test_evidence_of_independent_noise_is_near_nothing():
    noise = unit(np.random.default_rng(0).normal(size=(300, 64)))
    curve = weigh_numbers(noise, [2, 5, 10], seed=0)
    assert curve.evidence.max() < 0.1
    assert tell_number(noise, "auto", seed=0)["one"]


def test_the_second_is_another_peak_and_not_the_slope_of_the_first():
    def curve(*evidence):
        return Curve(np.arange(2, 2 + len(evidence)), np.array(evidence), *np.zeros((2, 1)))

    assert curve(0.1, 0.5, 0.4, 0.2, 0.3, 0.1).best == 3
    assert curve(0.1, 0.5, 0.4, 0.2, 0.3, 0.1).second == 6
    assert curve(0.1, 0.5, 0.4, 0.2).second is None
    assert curve(0.4, 0.1, 0.5).second == 2


def test_the_estimator_finds_it_and_says_how():
    points, labels = groups(4)
    model = MFAVBsClustering("auto", epochs=1, random_state=0).fit(points)
    assert model.n_clusters == "auto"
    assert model.n_clusters_ == model.probabilities_.shape[1] == 4
    assert model.number_["best"] == 4
    assert len(np.unique(np.stack([model.labels_, labels]), axis=1).T) == 4
    assert MFAVBsClustering(4, epochs=1).fit(points).number_ is None


def test_a_model_whose_number_was_found_is_read_back(tmp_path):
    points, _ = groups(4)
    model = MFAVBsClustering((3, 9), epochs=1, random_state=0).fit(points)
    model.save(tmp_path)
    read = MFAVBsClustering.load(tmp_path)
    assert read.n_clusters_ == 4
    assert (read.predict(points) == model.labels_).all()


def test_an_interrupted_fit_goes_on_with_the_number_that_it_found(tmp_path, monkeypatch):
    points, _ = groups(4)
    checkpoint = tmp_path / "checkpoint.pt"
    given = {"epochs": 2, "random_state": 0}
    model = MFAVBsClustering("auto", **given).fit(points, checkpoint=checkpoint)

    def other(*_):
        raise AssertionError("it was found already")

    monkeypatch.setattr("mfavbs.model.fitting.find_number", other)
    again = MFAVBsClustering("auto", **given).fit(points, checkpoint=checkpoint)
    assert again.number_ == model.number_
    assert (again.labels_ == model.labels_).all()


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (groups(4)[0][:5], r"n_samples=5 should be >= 20 to find n_clusters='auto'"),
        (np.repeat(groups(3)[0][:3], 20, 0), "3 different images are too few to find"),
        (np.random.default_rng(0).normal(size=(300, 64)), "The images are one group"),
    ],
)
def test_what_cannot_be_told_is_said(points, expected):
    with pytest.raises(SourceError, match=expected):
        MFAVBsClustering("auto", random_state=0).fit(points)


def test_who_names_a_range_has_one_group_divided():
    noise = np.random.default_rng(0).normal(size=(300, 64))
    model = MFAVBsClustering((2, 6), epochs=1, random_state=0).fit(noise)
    assert model.number_["one"]
    assert 2 <= model.n_clusters_ <= 6


@pytest.mark.parametrize(
    "wrong", [1, 0, -3, True, 2.0, "many", "5:60", None, (5,), (5, 6, 7), (6, 5), (1, 5), (2.0, 5)]
)
def test_what_is_no_number_of_clusters_is_refused(wrong):
    with pytest.raises(SourceError, match="n_clusters="):
        checked_number(wrong)


def test_numbers_come_back_in_plain_types():
    assert checked_number(np.int64(7)) == 7
    assert type(checked_number(np.int64(7))) is int
    assert checked_number([5, 60]) == (5, 60)
    assert checked_number("auto") == "auto"
