"""In: pixels, crops and features. Out: the very views that were asked for, and their features."""

import numpy as np
import pytest
import torch
from pixel_blobs import EDGE, pictures

from mfavbs.errors import SourceError
from mfavbs.images import Views, content_hash, recolour
from mfavbs.model import PixelViews

PIXELS, CROPS, FEATURES, _ = pictures()
CPU = torch.device("cpu")
TOKENS = FEATURES[:, :, None]  # (n, v, 1, f)


def some(features=TOKENS, rows=None, pixels=PIXELS):
    return PixelViews(pixels, CROPS, features, EDGE, CPU, rows)


def stored(row):
    import PIL.Image

    image = PIL.Image.fromarray(PIXELS[row])
    return Views(EDGE, CROPS.shape[1], 0)(image, content_hash(PIXELS[row]))


def draw(views, image, a, b, augment="none", drop=0.0, seed=0):
    numbers = (torch.tensor(x) for x in (image, a, b))
    image, a, b = numbers
    return views.pair(image, (a, b), augment, drop, torch.Generator().manual_seed(seed))


def assert_alike(got, expected):
    """To a grey level or two, which the jitter may double."""
    assert (got.float() - expected.float()).abs().mean() < 0.6


def test_a_pair_is_of_the_image_and_the_views_that_were_asked_for():
    a, b = draw(some(), [3, 11, 3], [0, 2, 1], [1, 3, 2])
    for view, which in ((a, (0, 2, 1)), (b, (1, 3, 2))):
        for i, row in enumerate((3, 11, 3)):
            assert_alike(view.pixels[i], stored(row)[which[i]])
            assert torch.equal(view.feature[i], torch.from_numpy(FEATURES[row, which[i]]))
        assert view.kept.all()


def test_all_stored_views_come_beside_the_next_of_the_same_image():
    a, b = some().stored(np.array([5, 2]))
    v = CROPS.shape[1]
    assert a.pixels.shape == (2 * v, 3, EDGE, EDGE)
    assert_alike(a.pixels[v:], stored(2))
    assert torch.equal(b.pixels[:v], a.pixels[:v].roll(-1, dims=0))
    assert torch.equal(a.feature, torch.from_numpy(FEATURES[[5, 2]]).flatten(0, 1))
    assert torch.equal(b.feature[v:], a.feature[v:].roll(-1, dims=0))
    assert a.kept is None


def test_every_other_stored_view_with_the_next_is_each_once():
    odd = PixelViews(PIXELS, CROPS[:, :3], TOKENS[:, :3], EDGE, CPU)
    for views, expected in ((some(), [(0, 2), (1, 3)]), (odd, [(0, 2), (1, 0)])):
        for view, which in zip(views.stored(np.array([5, 2]), 2), expected):
            assert torch.equal(
                view.feature, torch.from_numpy(FEATURES[[5, 2]][:, which].reshape(4, -1))
            )
            assert_alike(view.pixels[2:], stored(2)[list(which)])


def test_rows_are_numbered_among_those_that_are_taken():
    views = some(rows=np.array([4, 9, 20]))
    assert len(views) == 3
    a, _ = draw(views, [2, 0], [1, 1], [0, 0])
    assert torch.equal(a.feature, torch.from_numpy(FEATURES[[20, 4], 1]))
    assert_alike(a.pixels[0], stored(20)[1])


def test_colours_are_fresh_and_crops_are_not():
    same, fresh, other = (
        draw(some(), [1], [0], [2], augment, seed=seed)[0].pixels
        for augment, seed in (("none", 0), ("strong", 0), ("strong", 1))
    )
    assert not torch.equal(same, fresh)
    assert not torch.equal(fresh, other)
    assert torch.equal(draw(some(), [1], [0], [2], "strong")[0].pixels, fresh)


def test_without_a_recipe_a_pair_is_its_colours_alone():
    rows, which = np.array([3, 11]), np.array([[0, 1], [2, 3]])
    one, other = (torch.Generator().manual_seed(5) for _ in range(2))
    views = some()
    asked = torch.from_numpy(rows), tuple(torch.from_numpy(which.T)), "strong", 0.5
    pair = views.pair(*asked, one)
    numbers = recolour(np.stack([CROPS[r][w] for r, w in zip(rows, which)]), "strong", other)
    expected = views._drawn(rows, numbers)
    kept = torch.rand(2, 2, generator=other) >= 0.5
    for i, view in enumerate(pair):
        assert torch.equal(view.pixels, expected[:, i])
        assert torch.equal(view.kept, kept[i])
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize(
    ("recipe", "blur", "solarise"),
    [
        ("simclr", (0.5, 0.5), (0, 0)),
        ("byol", (1, 0.1), (0, 0.2)),
        ("vtcc", (1, 1), (0, 0.2)),
    ],
)
def test_each_place_of_a_pair_has_its_part_of_a_recipe(recipe, blur, solarise):
    n = 1500
    image, which = torch.arange(n) % 48, (torch.zeros(n, dtype=int), torch.ones(n, dtype=int))
    views = some()
    plain, made = (
        views.pair(image, which, "none", 0.1, torch.Generator().manual_seed(2), name)
        for name in ("colours", recipe)
    )
    for before, after, blurs, inverts in zip(plain, made, blur, solarise, strict=True):
        assert torch.equal(before.feature, after.feature)
        assert torch.equal(before.kept, after.kept)
        dark = (after.pixels < 128).flatten(1).all(dim=1).float().mean()
        assert abs(dark - inverts) < 0.04
        same = (before.pixels == after.pixels).flatten(1).all(dim=1).float().mean()
        same_of_blur = 1 - blurs * (1 - 0.17 / 1.9)  # by less than 0.27 pixels is by nothing
        assert abs(same - same_of_blur * (1 - inverts)) < 0.05


def test_features_are_withheld_at_the_rate_that_is_asked_for():
    rows = torch.arange(48).repeat(20).tolist()
    a, b = draw(some(), rows, [0] * 960, [1] * 960, drop=0.25)
    dropped = 1 - torch.cat([a.kept, b.kept]).float().mean()
    assert abs(dropped - 0.25) < 0.05
    assert not torch.equal(a.kept, b.kept)


def test_without_features_they_have_no_width():
    a, _ = draw(some(features=None), [1, 2], [0, 0], [1, 1])
    assert a.feature.shape == (2, 0)


def test_a_memory_map_is_read_a_batch_at_a_time(tmp_path):
    np.save(tmp_path / "pixels.npy", PIXELS)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    views = some(pixels=mapped)
    assert views.pixels is mapped
    for got, expected in zip(draw(views, [7], [0], [1]), draw(some(), [7], [0], [1])):
        assert torch.equal(got.pixels, expected.pixels)


@pytest.mark.parametrize(
    ("pixels", "crops", "features", "text"),
    [
        (PIXELS.astype(np.float32), CROPS, TOKENS, "expected pixels .* got float32"),
        (PIXELS[..., 0], CROPS, TOKENS, r"of shape \(48, 16, 16\)"),
        (PIXELS[:-1], CROPS, TOKENS, r"got pixels \(47,"),
        (PIXELS, CROPS[:, 1:], TOKENS, r"crops \(48, 3, 39\) and features \(48, 4"),
        (PIXELS, CROPS[:, 0], None, r"crops \(48, 39\); make them"),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(pixels, crops, features, text):
    with pytest.raises(SourceError, match=text):
        PixelViews(pixels, crops, features, EDGE, CPU)


def test_features_that_lie_on_a_device_are_told_as_those_that_do_not():
    here, there = some(rows=np.array([4, 9, 20])), some(rows=np.array([4, 9, 20]))
    there.features = torch.from_numpy(TOKENS)  # as on a GPU with the room
    for ask in (lambda views: draw(views, [2, 0], [1, 2], [0, 3]), lambda views: views.stored([1])):
        for one, other in zip(ask(here), ask(there), strict=True):
            assert torch.equal(one.feature, other.feature)
