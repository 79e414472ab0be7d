"""Tests of mfavbs.sources: what each kind of source calls itself, and is recognised by."""

from pathlib import Path

import numpy as np
import pytest
from image_files import write
from PIL import Image

from mfavbs import (
    FeatureStore,
    MFAVBsClustering,
    cluster_images,
    embed,
    load_encoder,
    open_images,
    predict_images,
)
from mfavbs.files import output_name
from mfavbs.report import write_report
from mfavbs.runs import evaluate_run, read_truth
from mfavbs.sources import open_source


def test_folder_of_images(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = open_source(tmp_path)
    assert (source.name, source.keys) == (tmp_path.name, ["a.png"])
    assert source.identity == f"folder {tmp_path}"
    assert source.store is None
    assert source.folders is None


def test_lists_of_as_many_other_paths_are_told_apart(tmp_path):
    paths = [write(tmp_path / f"{n}.png") for n in range(3)]
    first, same, other = (open_source(p) for p in (paths[:2], paths[:2], paths[1:]))
    assert first.identity == same.identity != other.identity
    assert first.name == "list"
    assert open_source(np.zeros((2, 8, 8), np.uint8)).name == "array"


def test_saved_features_are_recognised_by_path_size_and_time(tmp_path):
    path = tmp_path / "saved.npy"
    np.save(path, np.ones((11, 3)))
    source = open_source(path)
    assert source.name == "saved"
    assert source.keys[0] == "00"
    before = source.identity
    np.save(path, np.ones((12, 3)))
    assert open_source(path).identity != before


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("2024.05.01/", "2024.05.01"),
        ("2024.06.02/", "2024.06.02"),
        (".hidden/", ".hidden"),
        ("..x/", "..x"),
        ("a.tar.gz", "a"),
        ("a.b.tgz", "a.b"),
        ("all.v2.txt", "all.v2"),
        ("f.npy", "f"),
        (".txt", ".txt"),
        ("-", "list"),
        ("/", "root"),
    ],
)
def test_output_is_called_as_its_source(tmp_path, monkeypatch, source, name):
    monkeypatch.chdir(tmp_path)
    if source.strip("/"):
        write(tmp_path / source / "x.png" if source.endswith("/") else tmp_path / source, b"x")
    assert output_name(source) == name


def test_home_is_meant_by_a_tilde_wherever_a_path_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for n in range(6):
        Image.new("RGB", (8, 8), (40 * n, 0, 0)).save(tmp_path / f"{n}.png")
    options = {"encoder": "pixels", "image_size": 8, "n_workers": 0, "verbose": False}
    run = cluster_images("~", 2, out="~/run", epochs=1, n_views=2, exclude=["run"], **options)
    assert run.folder == tmp_path / "run"
    predict_images("~/run", ["~/1.png"], out="~/new", n_workers=0, verbose=False)
    embed(open_images("~", exclude=["run", "new"]), "~/store", load_encoder("pixels", image_size=8),
          n_views=1, n_workers=0, verbose=False)  # fmt: skip
    assert len(FeatureStore.open("~/store").keys) == 6
    assert open_source("~/store").name == "store"
    write(tmp_path / "truth.csv", b"path,label\n0.png,a\n1.png,b\n")
    assert evaluate_run("~/run", read_truth(Path("~/truth.csv")))["coverage"] == pytest.approx(
        1 / 3
    )
    write_report("~/run")
    MFAVBsClustering.load("~/run/model").save("~/model")
    assert (tmp_path / "model" / "config.json").exists()
    assert not (tmp_path / "~").exists()
