"""In: names. Out: whether they are left out, why, and how they are counted where they are many."""

from unicodedata import normalize

import pytest
from image_files import reasons, write

from mfavbs.errors import SourceError
from mfavbs.images import HEIF_SUFFIXES, RAW_SUFFIXES, open_images, skipping
from mfavbs.images.skipping import Skipped, check_patterns, excluded_by, why_left_out


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", ".thumbnails", "Thumbs.db", ".git"),
        *("System Volume Information", "__MACOSX", ".DS_Store", "._x.jpg", "LOST.DIR"),
    ],
)
def test_nobodys_pictures(tmp_path, name):
    assert why_left_out(name)
    write(tmp_path / "x.png")
    write(tmp_path / name / "deep" / "x.png")
    images = open_images(tmp_path)
    assert images.keys == ["x.png"]
    assert images.skipped == [(f"{name}/", why_left_out(name))]
    assert open_images(tmp_path / name).keys == ["deep/x.png"]  # asked for by name


@pytest.mark.parametrize("name", ["recycled", "thumbs", "lost", "@home", "#1.jpg", "_x", "a."])
def test_a_class_may_have_such_a_name(name):
    assert why_left_out(name) is None


@pytest.mark.parametrize(
    ("pattern", "out"),
    [
        ("small", ["a/small/1.png"]),
        ("small/", ["a/small/1.png"]),
        ("*_s.*", ["b_s.png"]),
        ("a/small", ["a/small/1.png"]),
        ("a/*", ["a/2.png", "a/small/1.png"]),
        ("./a/2.png", ["a/2.png"]),
        ("a/**/1.png", ["a/small/1.png"]),
        ("**/2.png", ["a/2.png"]),
        ("?.png", ["a/2.png", "a/small/1.png", "c.png"]),
        ("[!b]_s.png", []),
        ("Small", []),
        ("mall", []),
    ],
)
def test_exclude(tmp_path, pattern, out):
    names = ["a/2.png", "a/small/1.png", "b_s.png", "c.png", "keep.jpg"]
    for name in names:
        write(tmp_path / name)
    images = open_images(tmp_path, exclude=[pattern])
    assert images.keys == [name for name in names if name not in out]
    assert all(reason.startswith("left out by the pattern") for _, reason in images.skipped)
    assert bool(images.skipped) == bool(out)


def test_exclude_in_either_form_of_an_accent():
    assert excluded_by(normalize("NFD", "x/é.png"), check_patterns([normalize("NFC", "é.*")]))


@pytest.mark.parametrize("patterns", [[""], ["a", "/"]])
def test_empty_pattern_is_refused(tmp_path, patterns):
    write(tmp_path / "x.png")
    with pytest.raises(SourceError, match="one is empty"):
        open_images(tmp_path, exclude=patterns)


def test_a_text_is_no_list_of_patterns(tmp_path):
    with pytest.raises(SourceError, match="expected a list of patterns"):
        open_images(tmp_path, exclude="x*")


def test_all_left_out_says_why(tmp_path):
    write(tmp_path / "x.png")
    with pytest.raises(SourceError, match=r"none.* 1 \.png; x\.png: left out by the pattern"):
        open_images(tmp_path, exclude=["x*"])


def test_heif_and_raw_are_candidates(tmp_path):
    for suffix in HEIF_SUFFIXES | RAW_SUFFIXES:
        write(tmp_path / f"x{suffix}", b"nothing")
    images = open_images(tmp_path)
    assert len(images) == len(HEIF_SUFFIXES) + len(RAW_SUFFIXES)
    assert set(reasons(images)) == set(images.keys)


def test_many_of_a_kind_are_counted_in_bounded_memory(monkeypatch):
    skipped = Skipped()
    for n in range(1000):
        skipped.add(f"a/{n:04d}.txt", "no image")
        skipped.add(f"a/IM.{n:04d}", "no image")  # the number is no suffix
    skipped.add("b/x.txt", "no image")
    rows = skipped.rows()
    assert len(rows) == 2 * skipping.NAMED + 3
    assert ("a/*.txt", "no image: 900 more, not named one by one") in rows
    assert ("a/*", "no image: 900 more, not named one by one") in rows
    assert ("b/x.txt", "no image") in rows
    assert rows == sorted(rows)

    monkeypatch.setattr(skipping, "ROWS", 50)
    skipped = Skipped()
    for n in range(1000):
        skipped.add(f"{n}/x.txt", "no image")
    assert len(skipped.rows()) == 51
    assert ("*", "no image: 950 more, not named one by one") in skipped.rows()
