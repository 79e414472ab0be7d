"""In: many tars and tables. Out: the images of all, whichever way the shards are named."""

import os
import pickle

import pytest
from image_files import encoded, noise, reasons, red, write
from picture_archives import PICTURES, datasets_table, tarred, written

from mfavbs.errors import SourceError
from mfavbs.images import open_images


@pytest.fixture
def shards(tmp_path):
    """Three as WebDataset writes them: pictures beside their classes and captions."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for n in range(3):
        members = [("000.jpg", encoded(noise(64 + n), "JPEG")), ("000.cls", b"3")]
        tarred(folder / f"x-{n:03d}.tar", [*members, ("001.png", encoded(red()))])
    return folder


KEYS = [f"x-{n:03d}.tar/{name}" for n in range(3) for name in ("000.jpg", "001.png")]


def test_a_folder_of_tars(shards):
    images = open_images(shards)
    assert (images.kind, images.location, images.keys) == ("shards", str(shards), KEYS)
    assert dict(images.skipped) == {
        f"x-{n:03d}.tar/000.cls": "not an image by its name" for n in range(3)
    }
    contents = [images.read(row) for row in range(6)]
    assert len(set(contents)) == 4  # the red one is in all
    copy = pickle.loads(pickle.dumps(images))
    assert [copy.read(row) for row in (5, 0, 3)] == [contents[row] for row in (5, 0, 3)]


def test_by_a_pattern_a_list_and_a_text_file(shards, monkeypatch):
    monkeypatch.chdir(shards.parent)
    assert open_images("shards/x-{000..002}.tar").keys == KEYS
    assert open_images("shards/x-*.tar").keys == KEYS
    assert open_images([shards / "x-000.tar", shards / "x-002.tar"]).keys == KEYS[:2] + KEYS[4:]
    (shards / "list.txt").write_text("x-000.tar\nx-00[12].tar\n")
    assert open_images(shards / "list.txt").keys == KEYS


def test_tables_and_tars_together_and_their_labels(shards, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    for n in range(2):
        table = datasets_table(PICTURES, [f"{i}.png" for i in range(3)], [n, n, n])
        written(table, tables / f"train-{n}.parquet")
    assert open_images(tables).labels == ["cat"] * 3 + ["dog"] * 3
    tarred(tables / "more.tar", [("a.png", encoded(red()))])
    both = open_images(tables)
    assert both.keys[0] == "more.tar/a.png"
    assert len(both) == 7
    assert both.labels is None


def test_where_there_are_pictures_shards_are_left_out(shards):
    write(shards / "a.png", encoded(red()))
    images = open_images(shards)
    assert images.keys == ["a.png"]
    assert len(images.skipped) == 3


def test_hidden_and_excluded_shards(shards):
    os.rename(shards / "x-001.tar", shards / ".x-001.tar")
    assert open_images(shards, exclude=["x-002*"]).keys == KEYS[:2]


def test_a_damaged_shard_is_named(shards):
    write(shards / "x-001.tar", b"<html>" * 200)
    with pytest.raises(SourceError, match=r"expected a whole tar, but .*x-001\.tar"):
        open_images(shards)


def test_a_shard_that_goes_away_is_a_failure_for_each_of_its_images(shards):
    images = open_images(shards)
    os.remove(shards / "x-001.tar")
    assert set(reasons(images)) == set(KEYS[2:4])


def test_a_pattern_that_finds_nothing(shards):
    with pytest.raises(SourceError, match="does not exist"):
        open_images(shards / "y-{000..002}")
    with pytest.raises(SourceError, match=r"y-000.tar cannot be read after 0 members"):
        open_images(str(shards / "y-{000..002}.tar"))
