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
from mfavbs.errors import EncoderError
from mfavbs.files import output_name
from mfavbs.images import Framing
from mfavbs.report import write_report
from mfavbs.runs import evaluate_run, read_truth
from mfavbs.sources import ImageSource, check_same_encoder, open_source


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


@pytest.mark.parametrize("augment", ["default", "rotate", "none"])
def test_a_prediction_sees_images_as_its_run_does(tmp_path, augment):
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 256, (12, 30 + i, 3), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"images/{i:02d}.png")
    about = {"encoder": "pixels", "image_size": 8, "n_views": 2, "fit": "squash"}
    about["augment"] = augment
    run = cluster_images(
        tmp_path / "images", 2, out=tmp_path / "run", **about, epochs=1, n_workers=0, verbose=False
    )
    assert run.record["encoder"]["fit"] == "squash"
    assert run.record["encoder"]["augment"] == run.record["parameters"]["augment"] == augment
    assert run.record["encoder"]["n_views"] == (1 if augment == "none" else 2)
    # Renamed, in another order and company.
    (tmp_path / "new").mkdir()
    for i in (7, 3, 12):
        (tmp_path / f"images/{i:02d}.png").rename(tmp_path / f"new/{100 - i}.png")
    out = predict_images(run.folder, tmp_path / "new", n_workers=0, verbose=False)
    known, new = (FeatureStore.open(folder / "features") for folder in (run.folder, out))
    by_hash = dict(zip(known.manifest["hash"].to_pylist(), np.array(known.features)))
    for digest, features in zip(new.manifest["hash"].to_pylist(), new.features):
        assert np.array_equal(features, by_hash[digest])


def test_an_encoder_that_sees_otherwise_is_refused():
    recipe = load_encoder("pixels").recipe
    for name, value in {"mean": [0.5] * 3, "fit": "pad", "crop_pct": 0.9, "pad_type": "x"}.items():
        with pytest.raises(EncoderError, match=f"made with {name}="):
            check_same_encoder(recipe, recipe | {name: value})
    check_same_encoder(recipe, recipe | {"precision": "bfloat16"})


def test_a_run_of_an_earlier_version_is_applied_as_it_was_made():
    parameters = {"encoder": "pixels", "weights": None, "image_size": 8, "grid": 0, "fit": "pad"}
    load = ImageSource(open_images(np.zeros((2, 8, 8), np.uint8))).load_encoder
    assert load(parameters, {"weights_hash": ""}).framing == Framing()
    assert load(parameters, {"weights_hash": "", "views_version": 3}).framing.fit == "pad"
