"""A run that goes on with a folder that changes, day by day."""

import csv
import errno
import json
import os
import shutil

import numpy as np
import pytest
from command_line import mfavbs
from image_files import COLOURS, paint

from mfavbs import (
    FeatureStore,
    MFAVBsClustering,
    cluster_images,
    making,
    predict_images,
    runs,
    updating,
)
from mfavbs.errors import RunError
from mfavbs.runs import read_run
from mfavbs.updating import go_back

OPTIONS = {
    **{"encoder": "pixels", "image_size": 8, "n_views": 2, "epochs": 2},
    **{"n_workers": 0, "verbose": False, "dim": 16, "n_attention_heads": 2},
}


@pytest.fixture
def photos(tmp_path):
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(12):
            paint(tmp_path / "photos" / name / f"{i:02d}.png", colour, 100 * c + i)
    return tmp_path / "photos"


def cluster(photos, out, k=3, **options):
    return cluster_images(photos, k, out=out, **OPTIONS | options)


def by_hash(run):
    return dict(zip(run.hashes, run.cluster.tolist()))


def colour_of(run):
    """The cluster that most pictures of each colour are in."""
    found = {}
    for name in COLOURS:
        mine = [c for path, c in zip(run.paths, run.cluster) if path.startswith(name)]
        found[name] = max(set(mine), key=mine.count)
    return found


def change(photos):
    """Four new, one renamed, one copied, one that is another picture now, one gone."""
    for i in range(4):
        paint(photos / "red" / f"new{i}.png", COLOURS["red"], 500 + i)
    (photos / "green/00.png").rename(photos / "green/renamed.png")
    shutil.copy(photos / "green/01.png", photos / "green/copied.png")
    paint(photos / "blue/00.png", COLOURS["red"], 900)
    (photos / "blue/01.png").unlink()


def test_a_folder_that_has_changed_is_told_with_what_can_be_done(photos, tmp_path):
    run = cluster(photos, tmp_path / "run")
    assert run.changes is None
    change(photos)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"6 new, 1 changed, 2 gone, 33 kept\. update=True"):
        cluster(photos, tmp_path / "run")
    after = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert before == after


def test_updating_answers_what_is_new_and_keeps_every_label(photos, tmp_path, monkeypatch):
    first = cluster(photos, tmp_path / "run")
    monkeypatch.setattr(updating, "now", lambda: "2031-05-06T07:08:09+00:00")
    change(photos)
    run = cluster(photos, tmp_path / "run", update=True)
    assert len(run.paths) == 36 + 4 + 1 - 1
    assert len(set(run.paths)) == len(run.paths)
    was = by_hash(first)
    assert all(c == was[h] for h, c in by_hash(run).items() if h in was)
    colours = colour_of(first)
    assert all(
        dict(zip(run.paths, run.cluster))[f"red/new{i}.png"] == colours["red"] for i in (0, 3)
    )
    since = dict(zip(run.paths, run.since))
    new = {path for path, day in since.items() if day == "2031-05-06"}
    assert new == {*(f"red/new{i}.png" for i in range(4)), "blue/00.png"}
    assert run.changes["images"] == {"new": 5, "kept": 35, "gone": 2}
    assert run.changes["clusters"]["continued"] == {"0": 0, "1": 1, "2": 2}
    with open(run.folder / "labels.csv", encoding="utf-8-sig") as file:
        assert next(csv.reader(file))[:4] == ["path", "cluster", "confidence", "since"]
    assert "red/new0.png" in (run.folder / "report.html").read_text()
    again = cluster(photos, tmp_path / "run", update=True)
    assert again.record == run.record  # nothing to do, and nothing done
    predicted = predict_images(run.folder, photos, n_workers=0, verbose=False)
    assert (predicted / "labels.csv").is_file()


def test_an_update_draws_the_views_of_the_run(photos, tmp_path):
    """A run of before there was a choice has the default ones."""
    cluster(photos, tmp_path / "run")
    record = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert record["parameters"].pop("augment") == record["encoder"].pop("augment") == "default"
    (tmp_path / "run/run.json").write_text(json.dumps(record), encoding="utf-8")
    change(photos)
    with pytest.raises(RunError, match="augment='default'; now augment='gentle' is asked for"):
        cluster(photos, tmp_path / "run", augment="gentle", update=True)
    assert len(cluster(photos, tmp_path / "run", update=True).paths) == 40


@pytest.mark.parametrize("seed", [0, 1])
def test_training_anew_keeps_the_numbers_of_the_clusters(photos, tmp_path, seed):
    options = {"seed": seed, "epochs": 20}
    first = cluster(photos, tmp_path / "run", **options)
    change(photos)
    run = cluster(photos, tmp_path / "run", refit=True, **options)
    assert colour_of(run) == colour_of(first)
    assert run.record["state"] != first.record["state"]
    predicted = predict_images(run.folder, photos, n_workers=0, verbose=False)
    with open(predicted / "labels.csv", encoding="utf-8-sig") as file:
        clusters = {row["path"]: int(row["cluster"]) for row in csv.DictReader(file)}
    assert clusters == dict(zip(run.paths, run.cluster))  # the network bears the numbers, too


def test_an_update_is_taken_back_once_and_made_again(photos, tmp_path):
    first = cluster(photos, tmp_path / "run")
    with pytest.raises(RunError, match="no former state"):
        go_back(tmp_path / "run")
    change(photos)
    second = cluster(photos, tmp_path / "run", update=True)
    back = go_back(tmp_path / "run")
    assert back.record == first.record
    assert back.paths == first.paths
    assert back.changes is None
    with pytest.raises(RunError, match="it is encoded already"):
        cluster(photos, tmp_path / "run")
    assert go_back(tmp_path / "run").record == second.record


def test_what_cannot_be_updated_says_so(photos, tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        cluster(photos, tmp_path / "none", update=True)
    assert not (tmp_path / "none").exists()
    cluster(photos, tmp_path / "run")
    with pytest.raises(RunError, match="seed"):
        cluster(photos, tmp_path / "run", update=True, seed=5)
    X = np.random.default_rng(0).random((30, 8)).astype(np.float32)
    cluster_images(X, 2, out=tmp_path / "x", epochs=1, verbose=False)
    with pytest.raises(RunError, match="does not record the contents"):
        cluster_images(X, 2, out=tmp_path / "x", epochs=1, verbose=False, refit=True)


def test_overwriting_leaves_nothing_of_the_former_states(photos, tmp_path):
    cluster(photos, tmp_path / "run")
    change(photos)
    cluster(photos, tmp_path / "run", update=True)
    run = cluster(photos, tmp_path / "run", overwrite=True)
    assert run.changes is None
    assert not {"previous", "next"} & {path.name for path in run.folder.iterdir()}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("update", ["update", "refit", "back"])
def test_cut_off_anywhere_the_same_call_goes_on(photos, tmp_path, monkeypatch, update):
    """Before every renaming: the run is the old one, the new one, or says what to do."""
    out, start, replace = tmp_path / "run", tmp_path / "start", os.replace
    first = cluster(photos, out)
    change(photos)
    if update == "back":
        cluster(photos, out, update=True)

    def call():
        return go_back(out) if update == "back" else cluster(photos, out, **{update: True})

    out.rename(start)
    shutil.copytree(start, out)
    expected, touches, cut = by_hash(call()), 0, True
    while cut:
        shutil.rmtree(out)
        shutil.copytree(start, out)
        left, cut = touches, False

        def some(a, b):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            replace(a, b)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", some)
            try:
                call()
            except Killed:
                cut = True
        if cut and runs.is_swapping(out):
            with pytest.raises(RunError, match="run the same command again"):
                read_run(out)
        elif cut:
            assert len(read_run(out).paths) in (len(first.paths), 40)
        run = call() if cut else read_run(out)
        assert by_hash(run) == expected, touches
        left_over = {"next", "swap.json", "previous.new", "unfinished.json"}
        assert not left_over & {path.name for path in out.iterdir()}
        touches += 1 if update == "back" else 3


def test_from_the_command_line(photos, tmp_path):
    options = ("--encoder", "pixels", "--image-size", 8, "--views", 2, "--epochs", 2)
    command = ("cluster", "photos", "-k", 3, *options, "--workers", 0)
    assert mfavbs(*command, folder=tmp_path).code == 0
    again = mfavbs(*command, folder=tmp_path)
    assert again.code == 0
    assert "Nothing to do" in again.err
    change(photos)
    told = mfavbs(*command, folder=tmp_path)
    assert told.code == 1
    assert "6 new, 1 changed, 2 gone, 33 kept. --update" in told.err
    updated = mfavbs(*command[:2], *options, "--workers", 0, "--update", "--json", folder=tmp_path)
    assert updated.code == 0, updated.err
    assert "Images, by the last update: 5 new, 2 gone, 35 kept" in updated.err
    assert json.loads(updated.out)["n_images"] == 40
    nothing = mfavbs(*command, "--update", folder=tmp_path)
    assert (nothing.code, "Nothing to do" in nothing.err) == (0, True)
    back = mfavbs("cluster", "mfavbs-photos", "--back", "--json", folder=tmp_path)
    assert back.code == 0, back.err
    assert json.loads(back.out)["n_images"] == 36
    refit = mfavbs(*command, "--refit", folder=tmp_path)
    assert refit.code == 0, refit.err
    predict = ("predict", "mfavbs-photos", "photos", "--workers", 0)
    assert "Since" not in mfavbs(*predict, folder=tmp_path).err
    (photos / "red/02.png").unlink()
    assert "0 new, 0 changed, 1 gone, 39 kept" in mfavbs(*predict, folder=tmp_path).err


def test_a_training_cut_off_goes_on_with_the_images_it_began_with(photos, tmp_path, monkeypatch):
    expected = cluster(photos, tmp_path / "whole")

    def cut(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(making, "record_run", cut)
        with pytest.raises(Killed):
            cluster(photos, tmp_path / "run")
    change(photos)
    with pytest.warns(UserWarning, match=r"6 new, 1 changed, 2 gone, 33 kept.*it began with"):
        run = cluster(photos, tmp_path / "run")
    assert by_hash(run) == by_hash(expected)
    with pytest.raises(RunError, match="6 new, 1 changed, 2 gone"):
        cluster(photos, tmp_path / "run")
    assert len(cluster(photos, tmp_path / "run", update=True).paths) == 40


def test_predictions_of_a_folder_that_changes(photos, tmp_path):
    """The same call again: what is new is encoded, what is gone is left out."""
    run = cluster(photos, tmp_path / "run")
    for n in (36, 40):
        folder = predict_images(run.folder, photos, n_workers=0, verbose=False)
        with open(folder / "labels.csv", encoding="utf-8-sig") as file:
            assert len(list(csv.DictReader(file))) == n
        if n == 36:
            change(photos)
    since = FeatureStore.open(folder / "features").manifest["since"].to_pylist()
    assert since.count(2) == 5


@pytest.mark.parametrize("how", ["update", "refit"])
def test_a_full_disk_leaves_the_run_as_it_was(photos, tmp_path, monkeypatch, how):
    first = cluster(photos, tmp_path / "run")
    change(photos)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(updating, "write_json", full)
        with pytest.raises(RunError, match=r"No space left on device.*run the same command again"):
            cluster(photos, tmp_path / "run", **{how: True})
    assert by_hash(read_run(tmp_path / "run")) == by_hash(first)
    assert len(cluster(photos, tmp_path / "run", **{how: True}).paths) == 40


def test_an_update_keeps_to_the_bound_of_memory(photos, tmp_path, monkeypatch):
    cluster(photos, tmp_path / "run")
    paint(photos / "late.png", COLOURS["red"], 77)
    bounds = []
    answer = MFAVBsClustering.predict_proba

    def watched(model, X):
        bounds.append(model.memory)
        return answer(model, X)

    monkeypatch.setattr(MFAVBsClustering, "predict_proba", watched)
    cluster(photos, tmp_path / "run", update=True, memory="96M")
    assert bounds == ["96M"]
