"""In: text files, tables, standard input and lists of paths. Out: the rows that they name."""

import io
import os
import sys
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from image_files import encoded, reasons, red, write

from mfavbs.errors import SourceError
from mfavbs.images import open_images


@pytest.fixture
def photos(tmp_path):
    for name in ("a/1.png", "a/2.png", "a/notes.txt", "a/.3.png", "b/c/4.JPG", "b/@eaDir/4.png"):
        write(tmp_path / name)
    return tmp_path


def listed(folder, *lines, name="all.txt", **options):
    return open_images(write(folder / name, "\n".join(lines).encode()), **options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_list_file(tmp_path, encoding, newline):
    write(tmp_path / "lists" / "ü" / "x 1.png")
    write(tmp_path / "lists" / "b.png")
    other = write(tmp_path / "other" / "y.png")
    rows = ["ü/x 1.png", "", "b.png", "gone.png", str(other), "./b.png", "  ", "../other/y.png"]
    path = write(tmp_path / "lists" / "all.txt", newline.join(rows).encode(encoding))
    images = open_images(path)
    assert (images.kind, images.location) == ("list", str(path))
    assert images.keys == ["ü/x 1.png", "b.png", "gone.png", other.as_posix()]
    assert images.skipped == [
        ("../other/y.png", f"listed before, as {other}"),
        ("b.png", "listed before, as b.png"),
    ]
    assert reasons(images) == {"gone.png": "No such file or directory"}


def test_list_file_that_is_none(tmp_path):
    with pytest.raises(SourceError, match="binary"):
        open_images(write(tmp_path / "a.txt", encoded(red())))
    with pytest.raises(SourceError, match="found none"):
        open_images(write(tmp_path / "b.lst", b"\n \r\n # nothing\n"))


def test_keys_are_the_paths_as_given(photos, monkeypatch):
    monkeypatch.chdir(photos / "b")
    given = ["../a/1.png", "c/../c/4.JPG", f"{photos}/a/2.png"]
    assert open_images(given).keys == given
    assert reasons(open_images(given)) == {}
    assert listed(photos / "b", *given).keys == given
    assert open_images(np.array(given)).keys == given
    assert open_images(np.array([photos / "a" / "1.png"], object)).keys == [f"{photos}/a/1.png"]


def test_python_list(tmp_path):
    paths = [write(tmp_path / "b" / "x.png"), write(tmp_path / "a" / "c" / "x*.png")]
    images = open_images([*paths, str(paths[0]), tmp_path / "a" / "null\0.png"])
    assert (images.kind, images.location) == ("list", "")
    assert images.keys[:2] == [str(path) for path in paths]
    assert images.skipped == [(str(paths[0]), f"listed before, as {paths[0]}")]
    assert list(reasons(images)) == images.keys[2:]
    assert images.stat(2) == (-1, 0.0)


def test_comments_and_patterns(photos):
    images = listed(photos, "# mine", "  # too", "a/*", "b/**", "c/*.png")
    assert images.keys == ["a/1.png", "a/2.png", "b/c/4.JPG", "c/*.png"]
    assert dict(images.skipped) == {
        "a/notes.txt": "not an image by its name",
        "b/@eaDir/4.png": "thumbnails and indexes of a Synology NAS",
    }
    assert reasons(images) == {"c/*.png": "No such file or directory"}
    # What a pattern or a line names itself is meant.
    assert listed(photos, "b/@eaDir/*").keys == ["b/@eaDir/4.png"]
    assert listed(photos, "a/.3.png", "a/notes.txt").keys == ["a/.3.png", "a/notes.txt"]


def test_brackets_in_a_name_are_no_pattern(photos):
    write(photos / "x[1].png")
    assert reasons(listed(photos, "x[1].png")) == {}
    assert listed(photos, "a/[12].png").keys == ["a/1.png", "a/2.png"]


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_table_with_a_column_of_paths(photos, between):
    rows = [["label", "path"], ["x", "a/2.png"], ["y", "./a/1.png"], ["", ""]]
    images = listed(photos, *map(between.join, rows), name="all.csv")
    assert images.keys == ["a/2.png", "a/1.png"]
    assert reasons(images) == {}
    with pytest.raises(SourceError, match=r"column 'path'.*\['file'\]"):
        listed(photos, "file", "a/1.png", name="no.csv")


@pytest.mark.parametrize("as_given", [str, Path])
@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_standard_input(photos, monkeypatch, end, as_given):
    monkeypatch.chdir(photos)
    given = io.BytesIO(end.join([b"a/1.png", b"b/c/4.JPG", b""]))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
    images = open_images(as_given("-"))
    assert (images.kind, images.location) == ("list", "")
    assert images.keys == ["a/1.png", "b/c/4.JPG"]
    assert reasons(images) == {}


def test_nothing_on_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SourceError, match="found none in standard input"):
        open_images("-")


def test_home_in_a_list(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    images = listed(photos / "b", "~/a/1.png", "~/b/*/4.JPG")
    assert images.keys[0] == "~/a/1.png"
    assert reasons(images) == {}
    assert len(images) == 2
    assert open_images("~/a").keys == ["1.png", "2.png"]
    assert reasons(open_images(["~/a/1.png"])) == {}


@pytest.mark.parametrize(("on_disk", "written"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_both_forms_of_an_accent_name_the_file(tmp_path, on_disk, written):
    write(tmp_path / normalize(on_disk, "é.png"))
    images = listed(tmp_path, normalize(written, "é.png"))
    assert images.keys == [normalize(written, "é.png")]
    assert reasons(images) == {}


def test_exclude_from_a_list(photos):
    images = listed(photos, "a/1.png", "a/2.png", "b/c/4.JPG", exclude=["2.*", "c"])
    assert images.keys == ["a/1.png"]
    assert images.skipped == [
        ("a/2.png", "left out by the pattern 2.*"),
        ("b/c/4.JPG", "left out by the pattern c"),
    ]
    with pytest.raises(SourceError, match="found none in the list"):
        open_images([photos / "a" / "1.png"], exclude=["a"])


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            file.write(encoded(red()))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = open_images(write(tmp_path / "all.txt", b"caf\xe9.png\n./caf\\udce9.png\n"))
    assert images.keys == ["caf\\udce9.png", "caf\\udce9.png~"]
    assert list(reasons(images)) == ["caf\\udce9.png~"]
