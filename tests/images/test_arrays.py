"""In: arrays. Out: images, features or a list of paths, by one rule whatever way they come in."""

import numpy as np
import pytest
from image_files import write

from mfavbs.errors import SourceError
from mfavbs.images import is_of_images, open_images
from mfavbs.model import MFAVBsClustering
from mfavbs.sources import ArraySource, ImageSource, open_source

FEATURES = [
    ("float32", (9, 64)), ("uint8", (9, 784)), ("int64", (9, 4)), ("float64", (9, 5, 512)),
    ("float32", (9, 2, 16)), ("float32", (9, 4, 5, 32)), ("float32", (9, 1, 1, 512)),
    ("float16", (9, 28, 28)), ("float16", (9, 3, 50, 64)), ("float32", (9, 3, 50, 512)),
    ("float32", (9, 5, 50, 64)), ("float32", (9, 16, 1, 64)),
]  # fmt: skip
IMAGES = [
    ("uint8", (9, 8, 8)), ("uint8", (9, 2, 2, 3)), ("uint8", (9, 5, 512)),
    ("float32", (9, 8, 8, 3)), ("float64", (9, 32, 96, 1)), ("float32", (9, 64, 64, 4)),
]  # fmt: skip
EITHER = [
    ("float32", (9, 28, 28)), ("float64", (9, 8, 32)), ("float32", (9, 3, 32, 32)),
    ("float32", (9, 1, 28, 28)), ("float32", (9, 2, 2, 3)), ("float32", (9, 8, 512, 3)),
]  # fmt: skip


def ways_in(array, folder):
    np.save(folder / "array.npy", array)
    return array, folder / "array.npy"


@pytest.mark.parametrize(("dtype", "shape"), FEATURES)
def test_features(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    assert not is_of_images(array)
    for source in ways_in(array, tmp_path):
        assert isinstance(open_source(source), ArraySource)


@pytest.mark.parametrize(("dtype", "shape"), IMAGES)
def test_images(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    assert is_of_images(array)
    for source in ways_in(array, tmp_path):
        assert isinstance(open_source(source), ImageSource)
    with pytest.raises(SourceError, match=r"images; .*cluster_images"):
        MFAVBsClustering(2).fit(array)


@pytest.mark.parametrize(("dtype", "shape"), EITHER)
def test_what_may_be_either_is_refused_with_both_ways_to_say_it(tmp_path, dtype, shape):
    array = np.ones(shape, dtype)
    for source in ways_in(array, tmp_path):
        with pytest.raises(SourceError, match=r"uint8, or by open_images.*astype\(np.float16\)"):
            open_source(source)
    with pytest.raises(SourceError, match=r"np.float16.*cluster_images"):
        MFAVBsClustering(2).fit(array)
    # Both ways lead on.
    for source in ways_in(array.astype(np.float16), tmp_path):
        assert isinstance(open_source(source), ArraySource)
    if shape[1] > 4:
        assert isinstance(open_source(open_images(array)), ImageSource)
        assert isinstance(open_source(array.astype(np.uint8)), ImageSource)


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (9,)), ("complex64", (9, 4)), ("f4", ())])
def test_what_is_neither_is_refused(tmp_path, dtype, shape):
    for source in ways_in(np.ones(shape, dtype), tmp_path):
        with pytest.raises(SourceError, match="expected features"):
            open_source(source)


@pytest.mark.parametrize("kind", [str, object])
def test_array_of_paths_is_a_list_of_paths(tmp_path, kind):
    paths = [write(tmp_path / f"{n}.png") for n in range(3)]
    array = np.array([path if kind is object else str(path) for path in paths], kind)
    assert open_source(array).keys == [str(path) for path in paths]
    with pytest.raises(SourceError, match=r"names images; .*cluster_images"):
        MFAVBsClustering(2).fit(array)


@pytest.mark.parametrize("X", ["folder", ["a.png", "b.png"]])
def test_fit_on_names_of_images_says_the_way_on(X):
    with pytest.raises(SourceError, match=r"names images; .*cluster_images"):
        MFAVBsClustering(2).fit(X)


def test_wider_integers_are_images_that_say_how_they_become_8_bits():
    assert is_of_images(np.ones((9, 8, 8), np.int64))
    with pytest.raises(SourceError, match=r"got int64; use .astype\(np.uint8\)"):
        open_source(np.ones((9, 8, 8), np.int64))
