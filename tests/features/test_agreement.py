"""How near the views of an image are to it: counted by hand, and where nothing can be said."""

import numpy as np
import pytest

from mfavbs.features.agreement import nearest_own


def around(n, v, noise, d=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 1, d))
    views = images + noise * rng.normal(size=(n, v, d))
    views[:, 0] = images[:, 0]
    return views.astype(np.float16)


@pytest.mark.parametrize("noise", [0.0, 1.0, 2.0, 50.0])
def test_as_counted_one_by_one(noise):
    features = around(40, 4, noise)
    x = features.astype(np.float64)
    hits = 0
    for i in range(40):
        for view in x[i, 1:]:
            cosines = [view @ c / np.linalg.norm(view) / np.linalg.norm(c) for c in x[:, 0]]
            hits += int(np.argmax(cosines) == i)
    assert nearest_own(features) == {"share": round(hits / 120, 4), "n_images": 40}
    assert nearest_own(features[:, :, None]) == nearest_own(features)
    if noise == 0:
        assert hits == 120
    if noise == 50:
        assert hits < 20


def test_copies_are_the_image_itself():
    features = around(20, 3, 0.1)
    assert nearest_own(np.repeat(features, 5, axis=0)) == {"share": 1.0, "n_images": 100}


def test_many_images_are_compared_as_a_few_over_all_rows():
    features = around(3000, 3, 1.5)
    rows = np.linspace(0, 2999, 300).round().astype(int)
    found = nearest_own(features)
    assert found == nearest_own(features[rows])
    assert found["n_images"] == 300


def test_the_length_of_features_does_not_matter():
    features = around(30, 3, 1.0).astype(np.float32)
    expected = nearest_own(features)
    assert nearest_own(features * 1e30) == nearest_own(features * 1e-30) == expected
    features[0] = 0
    assert 0 <= nearest_own(features)["share"] <= 1


@pytest.mark.parametrize("shape", [(9, 5), (9, 1, 5), (1, 3, 5), (9, 1, 2, 5)])
def test_nothing_is_said_of_one_view_or_one_image(shape):
    assert nearest_own(np.ones(shape, np.float16)) is None
