"""A run that is numbered and named like an earlier one, and two runs compared."""

import json
import shutil

import numpy as np
import pytest
from command_line import mfavbs
from image_files import COLOURS, paint

from mfavbs import cluster_images
from mfavbs.errors import RunError
from mfavbs.report.data import collect
from mfavbs.runs import read_run, write_names

OPTIONS = {
    **{"encoder": "pixels", "image_size": 8, "n_views": 2, "epochs": 2, "with_map": False},
    **{"n_workers": 0, "verbose": False, "dim": 16, "n_attention_heads": 2, "device": "cpu"},
}


def cluster(photos, out, k=3, **options):
    return cluster_images(photos, k, out=out, **OPTIONS | options)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Photographs, and a run of them in which a person has named the red ones."""
    folder = tmp_path_factory.mktemp("continuing")
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(12):
            paint(folder / "photos" / name / f"{i:02d}.png", colour, 100 * c + i)
    run = cluster(folder / "photos", folder / "old")
    write_names(run.folder, {cluster_of(run, "red"): "roses"})
    return folder


def cluster_of(run, colour):
    found = {c for path, c in zip(run.paths, run.cluster.tolist()) if path.startswith(colour)}
    assert len(found) == 1
    return found.pop()


def moved(photos, to):
    """A copy under other names, without a picture and with a new one."""
    shutil.copytree(photos, to)
    (to / "red/00.png").unlink()
    (to / "green").rename(to / "green2")
    paint(to / "blue/new.png", COLOURS["blue"], 999)
    return to


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_seed_has_the_numbers_and_names_of_the_run_it_is_like(here, tmp_path, seed):
    old = read_run(here / "old")
    new = cluster(
        moved(here / "photos", tmp_path / "p"), tmp_path / "new", seed=seed, like=old.folder
    )
    for colour in COLOURS:
        assert cluster_of(new, colour) == cluster_of(old, colour)
    assert new.named == old.named
    told = json.loads((new.folder / "changes.json").read_bytes())
    assert told["images"] == {"new": 1, "kept": 35, "gone": 1}
    assert told["clusters"]["continued"] == {"0": 0, "1": 1, "2": 2}
    assert told["like"] == str(old.folder.resolve())
    assert collect(new.folder).changes[0] == f"Numbered like the run {told['like']}"
    # What the network says of images bears these numbers as well.
    probabilities = np.array([p.argmax() for p in np.array(new_probabilities(new))])
    assert (probabilities == new.cluster).mean() > 0.9


def new_probabilities(run):
    from mfavbs.runs import read_all_probabilities

    return read_all_probabilities(run.folder)


def test_of_another_k_some_clusters_go_on(here, tmp_path):
    old = read_run(here / "old")
    new = cluster(here / "photos", tmp_path / "new", k=2, like=old.folder)
    assert set(new.cluster.tolist()) == {0, 1}
    clusters = new.changes["clusters"]
    assert len(clusters["merged"]) + len(clusters["vanished"]) >= 1
    assert clusters == json.loads(json.dumps(_as_text(old.compare(new)["clusters"])))


def _as_text(value):
    return {str(k): _as_text(v) for k, v in value.items()} if isinstance(value, dict) else value


def test_compare_goes_by_contents_and_by_names_without(here, tmp_path):
    old = read_run(here / "old")
    assert old.compare(old) == {
        "images": {"new": 0, "kept": 36, "gone": 0},
        "clusters": {
            **{"continued": {0: 0, 1: 1, 2: 2}, "grown": {}, "split": {}, "merged": {}},
            **{"vanished": [], "new": []},
        },
    }
    features = np.random.default_rng(0).normal(size=(30, 4))
    how = {"epochs": 1, "verbose": False, "device": "cpu", "with_map": False}
    first = cluster_images(features, 2, out=tmp_path / "a", **how)
    more = np.concatenate([features, features[:3] + 1])
    second = cluster_images(more, 2, out=tmp_path / "b", like=tmp_path / "a", **how)
    assert first.compare(second)["images"] == {"new": 3, "kept": 30, "gone": 0}
    assert (first.cluster == second.cluster[:30]).mean() >= 0.5
    with pytest.raises(RunError, match="no image in common"):
        old.compare(first)


def test_what_it_cannot_be_like_is_said_before_anything_is_made(here, tmp_path):
    for wrong, match in (
        ({"like": tmp_path / "none"}, "is no folder"),
        ({"like": tmp_path / "new"}, "is the run that is to be made"),
        ({"like": here / "old", "train": "end-to-end"}, "like= numbers runs of"),
    ):
        with pytest.raises(RunError, match=match):
            cluster(here / "photos", tmp_path / "new", **wrong)
        assert not (tmp_path / "new").exists()
    with pytest.raises(RunError, match="goes on with the run in"):
        cluster(here / "photos", here / "old", refit=True, like=here / "old")


def test_without_an_image_in_common_it_says_so(here, tmp_path):
    for i in range(6):
        paint(tmp_path / "other" / f"{i}.png", COLOURS["red"], 700 + i)
    with pytest.warns(UserWarning, match="No image is in"):
        new = cluster(tmp_path / "other", tmp_path / "new", k=2, like=here / "old")
    assert new.changes is None


def test_from_the_command_line(here, tmp_path):
    how = ("--encoder", "pixels", "--image-size", 8, "--views", 2, "--workers", 0, "--epochs", 2)
    new = mfavbs(
        *("cluster", here / "photos", "-k", 3, "--seed", 5, "--like", here / "old", *how),
        *("--out", "new", "--no-map"),
        folder=tmp_path,
    )
    assert new.code == 0, new.err
    assert f"Images, against the run {here / 'old'}: 0 new, 0 gone, 36 kept" in new.err
