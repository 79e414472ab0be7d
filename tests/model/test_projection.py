"""In: features of views. Out: a projection onto what tells images apart, not their views."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feature_blobs import blobs
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mfavbs.model import projection
from mfavbs.model.projection import fit_projection, unit


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def projected(features, dim):
    mean, components = fit_projection(features, dim, seeded())
    return (unit(features) - mean) @ components


def test_centred_and_of_about_unit_channels():
    features, _ = blobs(200, n_views=3, n_tokens=4)
    tokens = projected(features, 8)
    assert tokens[:, 0].mean(0).abs().max() < 1e-4
    assert tokens[:, 0, 0].square().mean().sqrt().item() == pytest.approx(1, rel=0.2)


def test_with_one_view_they_are_the_principal_components():
    features, _ = blobs(100, n_views=1)
    _, components = fit_projection(features, 4, seeded())
    x = unit(features[:, 0, 0])
    _, _, axes = torch.linalg.svd(x - x.mean(0))
    cosines = F.normalize(components, dim=0).T @ axes[:4].T
    torch.testing.assert_close(cosines.abs(), torch.eye(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(components.norm(dim=0), components.norm(dim=0)[0].expand(4))


def test_views_all_alike_teach_no_more_than_one():
    features, _ = blobs(50, n_views=1)
    once, twice = (fit_projection(np.repeat(features, v, 1), 4, seeded())[1] for v in (1, 2))
    torch.testing.assert_close(F.normalize(once, dim=0).abs(), F.normalize(twice, dim=0).abs())


def test_a_direction_in_which_views_differ_counts_less_than_one_in_which_images_do():
    """Of two directions of equal variance, one is of the images and one of their views."""
    rng = np.random.default_rng(0)
    of_image, of_view = rng.normal(size=(400, 1)), rng.normal(size=(400, 4))
    features = np.ones((400, 4, 1, 3), np.float32) * 5
    features[:, :, 0, 0] += of_image
    features[:, :, 0, 1] += of_view
    _, components = fit_projection(features, 2, seeded())
    image, view = components[:2].norm(dim=1)
    # Of whitened signal s about 1 / (1 / 3) (what views add to all three directions evenly).
    assert image > 5 * view


@pytest.mark.parametrize("n_views", [1, 2, 5])
def test_as_posterior_mean_of_discriminant_analysis(n_views, monkeypatch):
    """Diagonal scatter has a closed form: s / (s + c), s the signal over the noise of a view."""
    within, between = torch.tensor([0.3, 0.1, 0.2]), torch.tensor([4.0, 0.1, 1.0])
    noise = within + within.mean()
    monkeypatch.setattr(projection, "_COMMON", 1 / n_views)
    found = projection._discriminant(within.diag(), between.diag(), 3)
    # The noise of the mean of v views is a v-th of one view's.
    expected = between / (between + noise / n_views) / noise.sqrt()
    torch.testing.assert_close(found.abs()[[0, 2, 1], [0, 1, 2]], expected[[0, 2, 1]])


class Scatter(BaseEstimator):
    """For scikit-learn: of one image's views unbiased, of all together not; and even noise."""

    def __init__(self, n_views, noise):
        self.n_views = n_views
        self.noise = noise

    def fit(self, X):
        covariance = np.cov(X.T, bias=len(X) > self.n_views)
        self.covariance_ = covariance + self.noise * np.eye(X.shape[1])
        return self


@pytest.mark.parametrize("n_views", [2, 3, 5])
def test_directions_are_those_of_scikit_learns_discriminant_analysis(n_views):
    rng = np.random.default_rng(n_views)
    features, _ = blobs(60, n_views, n_features=6, seed=n_views)
    features = features @ rng.normal(size=(6, 6)) + 2 * rng.normal(size=6)  # no axis is special
    x = unit(features[:, :, 0]).double().numpy()  # (n, v, f)
    noise = np.mean([np.cov(views.T).trace() for views in x]) / 6
    flat, image = x.reshape(-1, 6), np.arange(60).repeat(n_views)
    scatter = Scatter(n_views, noise)
    lda = LinearDiscriminantAnalysis("eigen", covariance_estimator=scatter).fit(flat, image)
    # Scaled to one within images, of all together they measure s + 1.
    s = (lda.scalings_ * (scatter.fit(flat).covariance_ @ lda.scalings_)).sum(0) - 1
    expected = torch.from_numpy(lda.scalings_ * s / (s + 1))[:, :4]
    found = fit_projection(features, 4, seeded())[1].double()
    found *= (found * expected).sum(0).sign() * expected.norm() / found.norm()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_narrow_features_leave_the_last_channels_empty():
    features, _ = blobs(40, n_views=2, n_features=6)
    tokens = projected(features, 8)
    assert tokens.shape == (40, 2, 1, 8)
    assert tokens[..., :6].any()
    assert not tokens[..., 6:].any()


def test_features_wider_than_can_be_decomposed_are_reduced_first(monkeypatch):
    features, _ = blobs(60, n_views=3, n_features=12)
    whole = projected(features, 4)
    monkeypatch.setattr(projection, "_WIDEST", 11)
    reduced = projected(features, 4)
    assert reduced.shape == whole.shape
    near = (
        torch.cdist(whole[:, 0, 0], whole[:, 0, 0]),
        torch.cdist(reduced[:, 0, 0], reduced[:, 0, 0]),
    )
    assert np.corrcoef(near[0].flatten(), near[1].flatten())[0, 1] > 0.95


@pytest.mark.parametrize("value", [0, 1])
def test_images_that_are_all_alike_stay_finite(value):
    mean, components = fit_projection(np.full((10, 2, 3, 6), value, np.float32), 4, seeded())
    assert mean.isfinite().all()
    assert components.isfinite().all()


@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_the_chunk_makes_no_difference(chunk, monkeypatch):
    features, _ = blobs(60)
    expected = projected(features, 4)
    monkeypatch.setattr(projection, "_CHUNK", chunk)
    found = projected(features, 4)
    torch.testing.assert_close(
        torch.cdist(*[found[:, 0, 0]] * 2),
        torch.cdist(*[expected[:, 0, 0]] * 2),
        atol=3e-3,
        rtol=1e-3,
    )


def test_a_seeded_sample_is_fitted_where_there_are_many(monkeypatch):
    features, _ = blobs(60)
    monkeypatch.setattr(projection, "_ROWS", 30)
    once, again, other = (fit_projection(features, 4, seeded(s))[1] for s in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_fewer_images_than_channels_leave_the_rest_empty_for_new_images_too():
    features, _ = blobs(10, n_views=1, n_features=40)
    _, components = fit_projection(features, 16, seeded())
    assert components[:, :9].norm(dim=0).min() > 0  # ten centred points span nine directions
    assert not components[:, 9:].any()
