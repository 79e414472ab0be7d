"""In: a store and its images. Out: small squares whose replayed crops are what was encoded."""

import tarfile

import numpy as np
import pytest
import torch
from image_files import encoded, noise, write
from PIL import Image

from mfavbs.encoders import load_encoder
from mfavbs.errors import StoreError
from mfavbs.features import embed, store_pixels
from mfavbs.images import Framing, Views, decode, open_images, views_of_bases

SIZES = [(24, 24), (60, 40), (40, 90), (300, 200), (24, 24)]


def smooth(width, height, seed):
    """A picture that any resizing leaves nearly the same."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path):
    for i, size in enumerate(SIZES):
        kind = "JPEG" if i == 3 else "PNG"  # of which a part of the size is decoded
        write(tmp_path / f"images/{i}.{kind.lower()}", encoded(smooth(*size, i), kind))
    write(tmp_path / "images/broken.png", b"no image")
    return tmp_path / "images"


@pytest.fixture
def store(source, tmp_path):
    options = {"n_views": 4, "device": "cpu", "n_workers": 0, "verbose": False}
    encoder = load_encoder("pixels", image_size=8)
    return embed(open_images(source), tmp_path / "store", encoder, **options)


def make(store, source, out, **options):
    options = {"edge": 24, "image_size": 8, "verbose": False} | options
    return store_pixels(store, open_images(source), out, **options)


@pytest.mark.parametrize("edge", [24, 40])
def test_views_of_the_squares_are_those_that_were_encoded(edge, store, source, tmp_path):
    """Features of the encoder "pixels" are the views themselves, scaled and shifted."""
    stored = make(store, source, tmp_path / "pixels", edge=edge)
    assert stored.pixels.shape == (5, edge, edge, 3)
    flat = torch.from_numpy(stored.pixels.copy()).flatten()
    views = views_of_bases(flat, [(edge, edge)] * 5, np.array(stored.crops), 8, Framing())
    got = views.flatten(2).double().numpy()  # (5, 4, 192)
    for row in range(5):
        for view in range(4):
            expected = store.features[row, view, 0].astype(np.float64)
            assert np.corrcoef(got[row, view], expected)[0, 1] > 0.99


def test_a_tar_which_has_one_place_to_read_at_is_read_in_order(tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for i in range(200):
            write(tmp_path / "image.png", encoded(smooth(24, 24, i)))
            tar.add(tmp_path / "image.png", f"{i:03d}.png")
    images = open_images(tmp_path / "images.tar")
    options = {"n_views": 1, "device": "cpu", "n_workers": 0, "verbose": False}
    store = embed(images, tmp_path / "store", load_encoder("pixels", image_size=8), **options)
    stored = store_pixels(store, images, tmp_path / "pixels", edge=24, image_size=8, verbose=False)
    for i, pixels in enumerate(stored.pixels):
        assert np.array_equal(pixels, np.asarray(smooth(24, 24, i)))


def test_a_square_is_the_whole_image(store, source, tmp_path):
    stored = make(store, source, tmp_path / "pixels", edge=10)
    for row, key in enumerate(store.keys):
        image = decode((source / key).read_bytes(), 24).resize((10, 10), Image.Resampling.BICUBIC)
        assert np.array_equal(stored.pixels[row], np.asarray(image))
    assert isinstance(stored.pixels, np.memmap)
    assert isinstance(stored.crops, np.memmap)


def test_what_is_there_is_not_read_again(store, source, tmp_path):
    once = make(store, source, tmp_path / "pixels")
    for path in source.iterdir():
        path.unlink()
    write(source / "other.png", encoded(noise(1, 24)))
    again = make(store, source, tmp_path / "pixels")
    assert np.array_equal(once.pixels, again.pixels)
    assert np.array_equal(once.crops, again.crops)


@pytest.mark.parametrize("name", ["edge", "image_size"])
def test_pixels_of_another_size_are_refused(name, store, source, tmp_path):
    make(store, source, tmp_path / "pixels")
    with pytest.raises(StoreError, match=f"holds pixels of another {name}; choose another"):
        make(store, source, tmp_path / "pixels", **{name: 12})


def test_pixels_of_other_images_are_refused(store, source, tmp_path):
    make(store, source, tmp_path / "pixels")
    (source / "0.png").unlink()
    options = {"n_views": 4, "device": "cpu", "n_workers": 0, "verbose": False}
    encoder = load_encoder("pixels", image_size=8)
    fewer = embed(open_images(source), tmp_path / "fewer", encoder, **options)
    with pytest.raises(StoreError, match="pixels of another state"):
        make(fewer, source, tmp_path / "pixels")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda path: path.unlink(), "it is not there any more; embed the images again"),
        (lambda path: write(path, encoded(noise(5, 24))), "it has changed; embed"),
    ],
)
def test_an_image_that_is_another_now_is_named(change, text, store, source, tmp_path):
    change(source / "2.png")
    with pytest.raises(StoreError, match=rf"2\.png is not what .*store was made of: {text}"):
        make(store, source, tmp_path / "pixels")
    assert not (tmp_path / "pixels").exists() or not list((tmp_path / "pixels").iterdir())


def test_a_folder_of_something_else_is_left_alone(store, source, tmp_path):
    with pytest.raises(StoreError, match="does not hold a store's pixels"):
        make(store, source, source)
    assert len(list(source.iterdir())) == 6


def test_the_views_are_those_of_the_store(store, source, tmp_path):
    stored = make(store, source, tmp_path / "pixels")
    views = Views(8, 4, 0, augmentation="shift")
    for row, (key, content) in enumerate(zip(store.keys, store.hashes)):
        image = decode((source / key).read_bytes(), 24)
        if image.size == (24, 24):
            np.testing.assert_array_equal(stored.crops[row], views.base(image, content).numbers)
