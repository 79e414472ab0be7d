"""In: Parquet and Arrow files with pictures. Out: images as from files, and clear errors."""

import pickle

import pyarrow as pa
import pytest
from image_files import reasons
from picture_archives import PICTURES, datasets_table, written

from mfavbs.errors import SourceError
from mfavbs.images import open_images, read_image


@pytest.mark.parametrize("name", ["x.parquet", "file.arrow", "stream.arrow"])
def test_the_layout_of_datasets(tmp_path, name):
    table = datasets_table(PICTURES, ["a.png", None, "../b/a.png"], [1, 0, 1])
    unlabelled = datasets_table(PICTURES, "abc", [-1, 0, 7])
    assert open_images(written(unlabelled, tmp_path / f"test-{name}")).labels is None
    images = open_images(written(table, tmp_path / name))
    assert (images.kind, images.location) == ("table", str(tmp_path / name))
    assert images.keys == ["a.png", "1", "b/a.png"]
    assert images.labels == ["dog", "cat", "dog"]
    for row in (2, 0, 1, 2):  # backwards, and across groups
        assert images.read(row) == PICTURES[row]
    copy = pickle.loads(pickle.dumps(images))
    assert read_image(copy, 1).image.size == read_image(images, 1).image.size


def test_a_plain_column_of_bytes(tmp_path):
    table = pa.table({"n": [1, 2, 3], "jpg": pa.array(PICTURES, pa.large_binary())})
    images = open_images(written(table, tmp_path / "x.parquet"))
    assert images.keys == ["0", "1", "2"]
    assert images.labels is None
    assert images.read(2) == PICTURES[2]


def test_rows_without_a_picture_are_failures(tmp_path):
    pictures = [PICTURES[0], None, None, b"", b"no picture"]
    table = datasets_table(pictures, ["a.png", None, "elsewhere.png", "c.png", "d.png"])
    found = reasons(open_images(written(table, tmp_path / "x.parquet")))
    assert found.pop("d.png").startswith("not an image")
    assert found == {
        "1": "no picture in this row",
        "elsewhere.png": "the table has its path and not its bytes; give the folder of it",
        "c.png": "empty file (0 bytes)",
    }


def test_equal_paths_are_told_apart_and_patterns_leave_out(tmp_path):
    table = datasets_table([*PICTURES, PICTURES[0]], ["a.png", "a.png", "b.png", "c_small.png"])
    images = open_images(written(table, tmp_path / "x.parquet"), exclude=["*_small.png"])
    assert images.keys == ["a.png", "a.png~", "b.png"]
    assert images.skipped == [("c_small.png", "left out by the pattern *_small.png")]
    assert images.read(1) == PICTURES[1]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_what_is_no_table_of_pictures(tmp_path, name):
    with pytest.raises(SourceError, match=r"expected a column of pictures.* n: int64"):
        open_images(written(pa.table({"n": [1]}), tmp_path / name))
    whole = written(datasets_table(PICTURES, "abc"), tmp_path / name).read_bytes()
    for content in (b"", b"x" * 500, whole[: len(whole) // 2]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=r"expected a table of pictures.*cannot be read"):
            open_images(tmp_path / name)
    empty = datasets_table([], [])
    with pytest.raises(SourceError, match="expected images"):
        open_images(written(empty, tmp_path / name))
