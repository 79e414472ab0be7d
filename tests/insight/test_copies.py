"""Copies: pictures that are one, and groups without chains."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import multivariate_normal

from mfavbs.insight import fit_one_or_two, group_copies
from mfavbs.insight.alignment import match
from mfavbs.insight.copies import _cliques


def picture(seed, edge=128):
    """Patches of several sizes, as photographs have them."""
    rng = np.random.default_rng(seed)
    total = sum(
        np.asarray(
            Image.fromarray(rng.normal(size=(size, size)).astype(np.float32)).resize((edge, edge))
        )
        for size in (4, 8, 16, 32)
    )
    return Image.fromarray((128 + 40 * total).clip(0, 255).astype(np.uint8))


def small(image):
    return np.asarray(image.resize((32, 32), Image.Resampling.BOX))


def changed(image):
    """The same picture: smaller, paler, cropped, with a caption below."""
    w, h = image.size
    caption = Image.new("L", (w, h + h // 8), 255)
    caption.paste(image, (0, 0))
    yield image.resize((w // 2, h // 2))
    yield Image.eval(image, lambda value: 90 + value // 3)
    yield image.crop((round(0.05 * w), 0, w, round(0.95 * h)))
    yield caption


def test_the_same_picture_made_anew_matches():
    images = [picture(0), *changed(picture(0))]
    greys = np.stack([small(image) for image in images])
    pairs = np.stack(np.triu_indices(len(greys), 1), axis=1)
    found = match(greys, pairs)
    assert found[:, 0].min() > 0.95
    assert found[:, 1].min() > 0.65


def test_a_match_does_not_depend_on_the_order_of_the_pair():
    greys = np.stack([small(image) for image in changed(picture(0))])
    pairs = np.stack(np.triu_indices(4, 1), axis=1)
    assert match(greys, pairs) == pytest.approx(match(greys, pairs[:, ::-1]), abs=1e-5)


def test_other_pictures_and_pictures_without_contrast_do_not_match():
    greys = np.stack([*(small(picture(seed)) for seed in range(20)), np.full((32, 32), 9)])
    pairs = np.stack(np.triu_indices(21, 1), axis=1)
    found = match(greys.astype(np.uint8), pairs)
    assert found[:, 0].max() < 0.9
    assert (found[pairs[:, 1] == 20] == 0).all()


def test_no_pairs_have_no_correlations():
    assert match(np.zeros((3, 32, 32), np.uint8), np.empty((0, 2), int)).shape == (0, 2)


def test_the_likelihood_ratio_is_that_of_two_normals():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(400, 1, 5)) * (3, 2, 1, 1, 1) + rng.normal(size=(400, 4, 5))
    model = fit_one_or_two(tokens)
    a, b = rng.normal(size=(2, 6, 5)) / 3
    expected = np.zeros(6)
    for w, v, x, y in zip(model.within, model.between, a.T, b.T):
        both = np.stack([x, y], axis=1)
        one = multivariate_normal(cov=[[v + w, v], [v, v + w]]).logpdf(both)
        two = multivariate_normal(cov=[[v + w, 0], [0, v + w]]).logpdf(both)
        expected += one - two
    assert model.log_ratio(a, b) == pytest.approx(expected, abs=1e-9)


def test_of_pairs_of_views_of_one_image_one_in_a_hundred_is_missed_at_the_most():
    rng = np.random.default_rng(1)
    tokens = 1.2 * rng.normal(size=(2000, 1, 8)) + rng.normal(size=(2000, 4, 8))
    model = fit_one_or_two(tokens[:1000])
    halves = [tokens[1000:, half].mean(1) for half in (slice(0, 2), slice(2, 4))]
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in halves)
    assert (model.log_ratio(a, b) < model.threshold).mean() < 0.02
    assert (model.log_ratio(a, b[::-1]) < model.threshold).mean() > 0.5


def test_nothing_is_known_of_views_where_there_is_one():
    assert fit_one_or_two(np.ones((5, 1, 3))) is None
    assert fit_one_or_two(np.ones((1, 5, 3))) is None


def test_views_that_are_all_alike_do_no_harm():
    model = fit_one_or_two(np.ones((5, 4, 3)))
    assert np.isfinite(model.log_ratio(np.ones((2, 3)), np.ones((2, 3)))).all()


def groups_of(images, embeddings=None, contents=None, looked_at=True):
    n = len(images)
    x = np.ones((n, 4)) / 2 if embeddings is None else embeddings
    greys = np.stack([small(image) for image in images])
    contents = np.arange(n) if contents is None else contents
    return group_copies(contents, x.astype(np.float32), greys if looked_at else None, None)


def test_copies_are_grouped_and_what_is_alone_is_in_no_group():
    images = [picture(3), picture(0), *changed(picture(0)), picture(1), picture(1), picture(2)]
    assert groups_of(images).tolist() == [-1, 0, 0, 0, 0, 0, 1, 1, -1]


def test_equal_contents_are_copies_whether_looked_at_or_not():
    images = [picture(seed) for seed in range(5)]
    contents = np.array([7, 3, 7, 9, 3])
    for looked_at in (False, True):
        found = groups_of(images, contents=contents, looked_at=looked_at)
        assert found.tolist() == [0, 1, 0, -1, 1]


def test_a_copy_of_many_equal_contents_is_of_their_group():
    images = [picture(0)] * 30 + [next(changed(picture(0)))]
    assert groups_of(images, contents=np.array([0] * 30 + [1])).tolist() == [0] * 31


def test_more_copies_than_neighbours_are_one_group():
    image = picture(0)
    images = [Image.eval(image, lambda value, i=i: i + value * 3 // 4) for i in range(40)]
    assert groups_of(images).tolist() == [0] * 40


def test_chains_are_no_groups():
    # Windows that move over a wide picture: neighbours share most, the ends too little.
    wide = picture(0, 256)
    images = [wide.crop((x, 0, x + 160, 160)) for x in range(0, 60, 6)]
    greys = np.stack([small(image) for image in images])
    found = groups_of(images)
    assert found.max() > 0
    pairs = [(i, j) for i in range(10) for j in range(i) if found[i] == found[j] >= 0]
    assert match(greys, np.array(pairs)).min(0)[0] >= 0.95


def test_where_a_is_like_b_and_b_like_c_the_better_pair_is_the_group():
    greys = np.zeros((3, 32, 32), np.uint8)
    assert _cliques(3, {(0, 1): 0.8, (1, 2): 0.9}, greys, np.arange(3)).tolist() == [0, 1, 1]


def test_groups_do_not_depend_on_the_order_of_the_images():
    images = [picture(0), *changed(picture(0)), *changed(picture(1)), picture(2), picture(3)]
    order = np.random.default_rng(0).permutation(len(images))
    found, moved = groups_of(images), groups_of([images[i] for i in order])
    same = lambda group: (group[:, None] == group) & (group >= 0)  # noqa: E731
    assert (same(moved) == same(found[order])).all()


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images_are_looked_at(n):
    assert groups_of([picture(0)] * n).tolist() == [[-1], [0, 0]][n - 1]
