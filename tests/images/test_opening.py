"""In: folders, lists and arrays. Out: each image is found, or its reason named."""

import os

import numpy as np
import pytest
from image_files import close, encoded, noise, reasons, red, write
from PIL import Image

from mfavbs.errors import SourceError
from mfavbs.images import decode, folder_labels, measure_range, open_images

# ---- folder ----


def test_folder(tmp_path):
    names = ["b/x.jpg", "a/x.png", "a/deep/er/ü ber.PNG", "z.jpeg", "a b/x.webp"]
    for name in names:
        write(tmp_path / name)
    for name in (".hidden.png", ".git/x.png", "__MACOSX/x.png", "a/._x.png"):
        write(tmp_path / name)
    for name in ("notes.txt", "Thumbs.DB", "a/README", "two.svg"):
        write(tmp_path / name)
    images = open_images(tmp_path)
    assert (images.kind, images.location) == ("folder", str(tmp_path))
    assert images.keys == sorted(names)
    assert len(images) == 5
    hidden, no_image = "hidden: its name begins with a dot", "not an image by its name"
    assert images.skipped == [
        (".git/", hidden),
        (".hidden.png", hidden),
        ("Thumbs.DB", "thumbnails of Windows"),
        ("__MACOSX/", "what macOS adds to archives"),
        ("a/._x.png", hidden),
        ("a/README", no_image),
        ("notes.txt", no_image),
        ("two.svg", "a kind of image that is not read: convert it to PNG or JPEG"),
    ]
    assert reasons(images) == {}
    row = images.keys.index("a/deep/er/ü ber.PNG")
    assert images.stat(row)[0] == len(images.read(row))
    assert images.stat(row)[1] > 0
    assert open_images(str(tmp_path)).keys == images.keys


def test_relative_source_has_an_absolute_location(tmp_path, monkeypatch):
    write(tmp_path / "in" / "x.png")
    monkeypatch.chdir(tmp_path)
    images = open_images("in")
    assert images.location == str(tmp_path / "in")
    monkeypatch.chdir("/")
    assert images.read(0)


def test_unreadable_files_are_rows(tmp_path):
    write(tmp_path / "good.png")
    write(tmp_path / "empty.jpg", b"")
    write(tmp_path / "page.jpg", b"<!DOCTYPE html>")
    write(tmp_path / "cut.jpg", encoded(noise(), "JPEG")[:900])
    write(tmp_path / "gone.png")
    os.symlink(tmp_path / "nowhere", tmp_path / "broken.png")
    os.symlink(tmp_path / "self.png", tmp_path / "self.png")
    images = open_images(tmp_path)
    (tmp_path / "gone.png").unlink()
    why = reasons(images)
    assert set(why) == {"broken.png", "cut.jpg", "empty.jpg", "gone.png", "page.jpg", "self.png"}
    assert why["empty.jpg"] == "empty file (0 bytes)"
    assert why["cut.jpg"].startswith("truncated")
    assert why["gone.png"] == why["broken.png"] == "No such file or directory"
    assert images.stat(images.keys.index("gone.png")) == (-1, 0.0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_permission_denied(tmp_path):
    write(tmp_path / "x.png").chmod(0)
    write(tmp_path / "shut" / "y.png")
    (tmp_path / "shut").chmod(0)
    try:
        assert reasons(open_images(tmp_path)) == {
            "x.png": "Permission denied",
            "shut": "Permission denied",
        }
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_folder_that_cannot_be_listed_is_a_row(tmp_path, monkeypatch):
    """The same for root, before whom nothing is shut."""
    write(tmp_path / "x.png")
    write(tmp_path / "shut" / "y.png")
    scandir = os.scandir

    def shut(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    images = open_images(tmp_path)
    assert images.keys == ["shut", "x.png"]
    assert reasons(images) == {"shut": "Permission denied"}
    with pytest.raises(SourceError, match="readable folder"):
        open_images(tmp_path / "shut")


def test_linked_folders_are_entered_once(tmp_path):
    write(tmp_path / "data" / "z" / "x.png")
    write(tmp_path / "elsewhere" / "y.png")
    os.symlink(tmp_path / "data", tmp_path / "data" / "z" / "loop")
    os.symlink(tmp_path / "data" / "z", tmp_path / "data" / "alias")
    os.symlink(tmp_path / "elsewhere", tmp_path / "data" / "linked")
    os.symlink(tmp_path / "elsewhere" / "y.png", tmp_path / "data" / "file.png")
    images = open_images(tmp_path / "data")
    assert images.keys == ["file.png", "linked/y.png", "z/x.png"]
    why = "a folder that is read under another name"
    assert images.skipped == [("alias/", why), ("z/loop/", why)]


def test_images_of_kinds_that_are_not_read_are_called_images(tmp_path):
    for name in ("x.png", "notes.txt", "map.jp2", "Sketch.PSD"):
        write(tmp_path / name)
    why = "a kind of image that is not read: convert it to PNG or JPEG"
    no_image = "not an image by its name"
    expected = [("Sketch.PSD", why), ("map.jp2", why), ("notes.txt", no_image)]
    assert open_images(tmp_path).skipped == expected


def test_a_range_is_measured_on_the_few_files_that_can_have_one(tmp_path):
    for i in range(200):
        write(tmp_path / f"{i:03d}.jpg", encoded(red(), "JPEG"))
    counts = np.linspace(100, 160, 64 * 64).reshape(64, 64).astype(np.uint16)
    write(tmp_path / "100x.tif", encoded(Image.fromarray(counts), "TIFF"))
    assert measure_range(open_images(tmp_path)) == pytest.approx((100, 160), abs=1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipe_is_never_waited_for(tmp_path):
    write(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    images = open_images(tmp_path)
    assert images.keys == ["x.png"]
    assert [name for name, why in images.skipped if "a pipe" in why] == ["pipe.png"]
    assert list(reasons(open_images([tmp_path / "pipe.png"])).values()) == ["not a regular file"]


def test_name_that_is_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(encoded(red()))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = open_images(tmp_path)
    assert images.keys == ["caf\\udce9.png"]
    images.keys[0].encode()
    assert reasons(images) == {}


def test_what_is_no_source(tmp_path):
    with pytest.raises(SourceError, match=r"expected a folder .* does not exist"):
        open_images(tmp_path / "nowhere")
    write(tmp_path / "no" / "a.svg")
    write(tmp_path / "no" / "b.SVG")
    with pytest.raises(SourceError, match=r"found none in .*left out: 2 \.svg"):
        open_images(tmp_path / "no")
    with pytest.raises(SourceError, match="give its folder"):
        open_images(write(tmp_path / "one.png"))
    with pytest.raises(SourceError, match=r"got the file .*x\.zip; unpack"):
        open_images(write(tmp_path / "x.zip"))
    for source in ([], [np.zeros((4, 4))]):
        with pytest.raises(SourceError, match="expected"):
            open_images(source)


# ---- arrays ----


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16])
def test_array(shape, dtype):
    pixels = np.full((12, 8, 6, *shape), 51, np.uint8)
    if shape == (4,):
        pixels[..., 3] = 255
    images = open_images(pixels if dtype == np.uint8 else (pixels / 255).astype(dtype))
    assert (images.kind, images.location, len(images)) == ("array", "", 12)
    assert images.keys[:2] + images.keys[-1:] == ["00", "01", "11"]
    assert images.stat(0)[1] == 0.0
    image = decode(images.read(3), at_least=2)
    assert image.size == (6, 8)
    assert close(image, 51, 1)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((5, 7)), r"got shape \(5, 7\); give features"),
        (np.zeros((5, 3, 8, 8)), "moveaxis"),
        (np.zeros((5, 8, 8, 2)), r"got shape \(5, 8, 8, 2\)"),
        (np.zeros((0, 8, 8)), "at least one image"),
        (np.zeros((5, 8, 8), np.int64), "got int64"),
        (np.full((5, 8, 8), 16.0), r"got float64 in 16\.\.16; divide"),
        (np.full((5, 8, 8), np.nan), "in nan"),
        (np.full((5, 8, 8), -0.1), "in -0.1"),
    ],
)
def test_array_that_is_none(pixels, message):
    with pytest.raises(SourceError, match=message):
        open_images(pixels)


# ---- labels ----


def test_folder_labels():
    assert folder_labels(["a/x.png", "b/c/x.png", "a/y.png"]) == ["a", "b/c", "a"]
    assert folder_labels(["a/x.png", "x.png"]) == ["a", "."]
    assert folder_labels(["x.png", "y.png"]) is None
    assert folder_labels(["a/x.png", "a/y.png"]) is None
    assert folder_labels([]) is None
