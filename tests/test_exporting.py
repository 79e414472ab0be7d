"""Runs taken away: what is there after one export, after a second, and what is refused."""

import csv
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import mfavbs
from image_files import COLOURS, paint
from report_runs import make_run

from mfavbs import export_run
from mfavbs.errors import RunError, SourceError
from mfavbs.exporting import KINDS
from mfavbs.files import safe_name
from mfavbs.images import open_images
from mfavbs.runs import write_names


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, (name, colour) in enumerate(COLOURS.items()):
        for row in range(2):
            paint(folder / name / f"{name}{row}.png", colour, 10 * number + row)
    return folder


@pytest.fixture
def run(tmp_path, photos):
    return make_run(tmp_path / "run", open_images(photos).keys, [0, 0, 1, 1, 2, 2], source=photos)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".mfavbs-export.json"
    }


def states(folder):
    return {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".mfavbs-export.json"
    }


@pytest.mark.parametrize("how", ["auto", "hardlink", "symlink", "copy"])
def test_folders_hold_the_images_of_their_clusters(run, photos, tmp_path, how):
    before = files(photos)
    placed = export_run(run, "folders", tmp_path / "out", how=how, verbose=False)
    assert (placed.n_new, placed.n_kept, placed.n_removed) == (6, 0, 0)
    out = files(tmp_path / "out")
    assert [name.split("/")[0] for name in out] == ["0", "0", "1", "1", "2", "2"]
    assert sorted(out.values()) == sorted(before.values())
    path = next((tmp_path / "out" / "0").iterdir())
    assert path.is_symlink() == (how == "symlink")
    assert (os.stat(path).st_nlink == 2) == (how in ("auto", "hardlink"))
    assert files(photos) == before


def test_a_second_export_touches_only_what_changed(run, photos, tmp_path):
    out = tmp_path / "out"
    export_run(run, "folders", out, how="copy", verbose=False)
    before = states(out)
    placed = export_run(run, "folders", out, how="copy", verbose=False)
    assert placed[1:4] == (0, 6, 0)
    assert states(out) == before
    # One image moves to another cluster, one is edited, one is gone.
    keys = open_images(photos).keys
    make_run(run, keys, [1, 0, 1, 1, 2, 2], source=photos)
    paint(photos / keys[2], (9, 9, 9), 5)
    (photos / keys[5]).unlink()
    placed = export_run(run, "folders", out, how="copy", verbose=False)
    assert (placed.n_new, placed.n_removed) == (2, 1)
    assert [path for path, _ in placed.missing] == [keys[5]]
    same = {path: state for path, state in states(out).items() if before.get(path) == state}
    assert len(same) == 4
    assert len(files(out)) == 6  # what is gone from the source stays where it was exported to


def test_a_person_may_have_changed_a_copy_and_it_is_left_alone(run, tmp_path):
    out = tmp_path / "out"
    export_run(run, "folders", out, how="copy", verbose=False)
    mine = next((out / "0").iterdir())
    mine.write_bytes(b"mine")
    (out / "0" / "notes.txt").write_text("mine too")
    make_run(run, open_images(tmp_path / "photos").keys, [2] * 6, source=tmp_path / "photos")
    for _ in range(2):
        placed = export_run(run, "folders", out, how="copy", verbose=False)
        assert mine.read_bytes() == b"mine"
        assert (out / "0" / "notes.txt").read_text() == "mine too"
    assert not (out / "1").exists()  # empty, and ours
    assert placed.n_kept == 6


def test_a_folder_of_others_is_refused_and_not_touched(run, photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match=r"'mine\.txt'.*new or an empty folder"):
        export_run(run, "folders", out, verbose=False)
    assert list(files(out)) == ["mine.txt"]
    (out / "mine.txt").unlink()
    make_run(run, open_images(photos).keys, [0] * 6, source=photos)
    export_run(run, "folders", out, verbose=False)
    (out / "1").mkdir()
    (out / "1" / "red1.png").write_text("mine")
    before = states(out)
    make_run(run, open_images(photos).keys, [0, 0, 0, 0, 0, 1], source=photos)
    with pytest.raises(RunError, match="nothing was written"):
        export_run(run, "folders", out, verbose=False)
    assert states(out) == before


def test_a_link_in_place_of_a_folder_leads_nowhere(run, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    export_run(run, "folders", out, how="copy", verbose=False)
    shutil.move(out / "0", elsewhere)
    (out / "0").symlink_to(elsewhere)
    before = files(elsewhere)
    with pytest.raises(RunError, match="files of others"):
        export_run(run, "folders", out, how="copy", verbose=False)
    assert files(elsewhere) == before


def test_a_hostile_list_removes_nothing_outside(run, tmp_path):
    out = tmp_path / "out"
    export_run(run, "folders", out, how="copy", verbose=False)
    victim = tmp_path / "victim.txt"
    victim.write_text("here")
    path = out / ".mfavbs-export.json"
    content = json.loads(path.read_text())
    content["files"] |= {name: {} for name in ("../victim.txt", str(victim), "a/../../victim.txt")}
    path.write_text(json.dumps(content))
    export_run(run, "folders", out, how="copy", verbose=False)
    assert victim.read_text() == "here"
    path.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        export_run(run, "folders", out, verbose=False)


def test_an_export_that_was_cut_off_goes_on(run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    made = []

    def stop(*args):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(args)
        return original(*args)

    from mfavbs import placing

    original = placing._make
    monkeypatch.setattr(placing, "_make", stop)
    with pytest.raises(KeyboardInterrupt):
        export_run(run, "folders", out, verbose=False)
    monkeypatch.setattr(placing, "_make", original)
    assert len(files(out)) == 3
    export_run(run, "folders", out, verbose=False)
    assert len(files(out)) == 6


def test_the_images_are_no_place_for_an_export(run, photos):
    with pytest.raises(RunError, match="among the images"):
        export_run(run, "folders", photos / "sorted", verbose=False)
    assert not (photos / "sorted").exists()


def test_images_that_are_gone_are_an_error_and_the_way_on_is_said(run, photos, tmp_path):
    photos.rename(tmp_path / "moved")
    with pytest.raises(SourceError, match="not there any more"):
        export_run(run, "folders", tmp_path / "out", verbose=False)
    placed = export_run(run, "folders", tmp_path / "out", images=tmp_path / "moved", verbose=False)
    assert placed.n_new == 6


def test_names_that_are_one_on_some_system_get_a_mark(tmp_path):
    photos = tmp_path / "photos"
    names = ["a/IMG.png", "b/img.PNG", "c/img.png", "d/other.png", "e/con.png", "f/x.png"]
    for row, name in enumerate(names):
        paint(photos / name, (99, 9, 9), row)
    run = make_run(tmp_path / "run", open_images(photos).keys, [0] * 6, k=1, source=photos)
    export_run(run, "folders", tmp_path / "out", verbose=False)
    found = sorted(path.name for path in (tmp_path / "out" / "0").iterdir())
    assert len({name.casefold() for name in found}) == 6
    assert {"other.png", "_con.png", "x.png"} < set(found)


def test_a_persons_name_is_in_the_folders_name_and_comes_over(run, tmp_path):
    out = tmp_path / "out"
    export_run(run, "folders", out, verbose=False)
    write_names(run, {1: "Urlaub: Meer/Strand "})
    placed = export_run(run, "folders", out, verbose=False)
    assert (placed.n_new, placed.n_removed) == (2, 2)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
        "0",
        "1 Urlaub_ Meer_Strand",
        "2",
    ]


@pytest.mark.parametrize("kind", ["tar", "array"])
def test_images_that_are_no_files_are_copied(tmp_path, photos, kind):
    if kind == "tar":
        with tarfile.open(tmp_path / "photos.tar", "w") as tar:
            tar.add(photos, "photos")
        images = open_images(tmp_path / "photos.tar")
    else:
        images = open_images(np.arange(6 * 16 * 16, dtype=np.uint8).reshape(6, 16, 16))
    run = make_run(tmp_path / "run", images.keys, [0, 0, 1, 1, 2, 2])
    export_run(run, "folders", tmp_path / "out", images=images, verbose=False)
    again = open_images(tmp_path / "out")
    assert len(again) == 6
    if kind == "array":
        from mfavbs.images import decode

        assert (np.array(decode(again.read(3)))[..., 0] == images.read(3)).all()


def test_tables_hold_a_row_for_each_image(run, tmp_path):
    write_names(run, {0: "=red()"})
    export_run(run, "parquet", tmp_path / "p", verbose=False)
    table = pq.read_table(tmp_path / "p" / "clusters.parquet")
    assert table.column_names == ["path", "cluster", "name", "confidence"]
    assert table["name"].to_pylist()[:3] == ["=red()", "=red()", None]
    export_run(run, "csv", tmp_path / "c", verbose=False)
    with open(tmp_path / "c" / "clusters.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cluster"] for row in rows] == ["0", "0", "1", "1", "2", "2"]
    assert rows[0]["name"] == "./=red()"
    before = states(tmp_path / "c")
    export_run(run, "csv", tmp_path / "c", verbose=False)
    assert states(tmp_path / "c") == before


def test_an_imagefolder_is_read_by_torchvision_and_by_its_table(run, tmp_path):
    from torchvision.datasets import ImageFolder

    export_run(run, "imagefolder", tmp_path / "out", verbose=False)
    read = ImageFolder(tmp_path / "out")
    assert (read.classes, read.targets) == (["0", "1", "2"], [0, 0, 1, 1, 2, 2])
    with open(tmp_path / "out" / "metadata.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all((tmp_path / "out" / row["file_name"]).is_file() for row in rows)


def test_fiftyone_gets_the_images_where_they_lie(run, photos, tmp_path):
    export_run(run, "fiftyone", tmp_path / "out", verbose=False)
    assert set(files(tmp_path / "out")) == {"data.json", "labels.json"}
    where = json.loads((tmp_path / "out" / "data.json").read_text())
    labels = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert labels["classes"] == ["0", "1", "2"]
    assert where.keys() == labels["labels"].keys()
    for key, path in where.items():
        assert path == str(photos / key)
        assert labels["labels"][key]["label"] in labels["classes"]


@pytest.mark.parametrize(("option", "value"), [("to", "zip"), ("how", "move")])
def test_words_that_are_unknown_are_refused(run, tmp_path, option, value):
    with pytest.raises(RunError, match=f"{option}='{value}' should be one of"):
        export_run(run, **{"to": "folders", option: value}, out=tmp_path / "out")


def test_the_command_line_offers_what_there_is():
    from mfavbs.cli import export
    from mfavbs.placing import HOW

    assert (export._KINDS, export._HOW) == (KINDS, HOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("a/b\\c:d.jpg", "a_b_c_d.jpg"),
        ("CON", "_CON"),
        ("con.tar.gz", "_con.tar.gz"),
        ("com1 .txt", "_com1 .txt"),
        ("COM¹", "_COM¹"),
        ("console.log", "console.log"),
        ("ends. . ", "ends"),
        ("", "_"),
        ("..", "_"),
        (".hidden", "_.hidden"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("line\nfeed", "line_feed"),
        ("half \ud800", "half ?".replace("?", "_")),
        ("e\u0301.png", "\u00e9.png"),
        ("x" * 300 + ".jpeg", "x" * 115 + ".jpeg"),
        ("ä" * 300, "ä" * 60),
    ],
)
def test_safe_names(text, expected):
    assert safe_name(text) == expected
    assert safe_name(expected) == expected


def test_the_command_exports_names_and_refuses(run, tmp_path):
    done = mfavbs("export", "run", "--to", "folders", "--out", "out", "--json", folder=tmp_path)
    assert (done.code, json.loads(done.out)["n_new"]) == (0, 6)
    assert "6 new, 0 as they were, 0 removed" in done.err
    done = mfavbs("report", "run", "--name", "2=red things", "--quiet", folder=tmp_path)
    assert (done.code, done.err) == (0, "")
    done = mfavbs("export", "run", "--to", "folders", "--out", "out", folder=tmp_path)
    assert "2 new, 4 as they were, 2 removed" in done.err
    assert (tmp_path / "out" / "2 red things").is_dir()
    done = mfavbs("export", "run", "--to", "csv", "--out", "photos", folder=tmp_path)
    assert done.code == 1
    assert "give a new or an empty folder as --out" in done.err.lower()
    done = mfavbs("report", "run", "--name", "9=x", folder=tmp_path)
    assert (done.code, "one of 0 to 2" in done.err) == (1, True)
