"""Runs from pixels, as a call: what is refused and when, what is recorded, what is answered."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import COLOURS, paint

from mfavbs import MFAVBsClustering, cluster_images, embed, load_encoder, open_images
from mfavbs.errors import EncoderError, MfavbsError, RunError, SourceError
from mfavbs.model import EndToEnd, pixel_fitting
from mfavbs.prediction import predict_images
from mfavbs.runs import read_clusters, read_run

QUICK: dict[str, Any] = {"encoder": "pixels", "image_size": 8, "n_views": 3, "n_workers": 0}
QUICK |= {"verbose": False, "device": "cpu", "train": "end-to-end", "resolution": 8, "epochs": 2}
pytestmark = pytest.mark.filterwarnings("ignore:There is no GPU")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            paint(folder / "photos" / name / f"{i}.png", colour, 10 * c + i)
    return folder / "photos"


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    cluster_images(photos, 3, out=out, labels_from_folders=True, **QUICK)
    return out


def test_a_run_from_pixels_says_what_it_started_from_and_which_epoch_it_kept(run: Path) -> None:
    read = read_run(run)
    assert read.metrics["scores"]["nmi"] == 1
    assert read.metrics["baselines"].keys() == {"k-means", "frozen"}
    epochs = read.metrics["losses"]
    assert [epoch["epoch"] for epoch in epochs] == [0, 1, 2]
    judged = [epoch["criterion"] for epoch in epochs]
    assert read.record["best_epoch"] == int(np.argmin(judged))
    parameters = read.record["parameters"]
    expected = {"train": "end-to-end", "resolution": 8, "anchor": True, "image_size": 8}
    assert {name: parameters[name] for name in expected} == expected
    assert "criterion" in (run / "report.html").read_text(encoding="utf-8")
    model = EndToEnd.load(run / "model", "cpu")
    frozen = MFAVBsClustering.load(run / "model" / "frozen", "cpu")
    assert model.n_clusters == frozen.n_clusters == 3
    assert not (run / "pixels").exists()
    with pytest.raises(RunError, match="trained on pixels; it is read by EndToEnd"):
        MFAVBsClustering.load(run / "model")


def test_the_images_of_a_run_are_predicted_as_they_were_labelled(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    folder = predict_images(run, photos, out=tmp_path / "out", n_workers=0, verbose=False)
    paths, clusters = read_clusters(folder)
    read = read_run(run)
    assert paths == read.paths
    assert clusters.tolist() == read.labels_.tolist()
    assert not (folder / "pixels").exists()
    some = [photos / "red" / "3.png", photos / "blue" / "5.png"]
    folder = predict_images(run, some, out=tmp_path / "some", n_workers=0, verbose=False)
    _, clusters = read_clusters(folder)
    assert clusters.tolist() == [
        read.labels_[read.paths.index(f"{path.parent.name}/{path.name}")] for path in some
    ]


def test_the_same_call_does_nothing_and_another_training_is_another_run(
    run: Path, photos: Path
) -> None:
    with pytest.warns(UserWarning, match="Nothing to do"):
        cluster_images(photos, 3, out=run, labels_from_folders=True, **QUICK)
    for change, text in (
        ({"train": "frozen", "resolution": None}, "train='end-to-end'"),
        ({"resolution": 12}, "resolution=8"),
        ({"anchor": False}, "anchor=True"),
    ):
        with pytest.raises(RunError, match=f"already holds a run, made with .*{text}"):
            cluster_images(photos, 3, out=run, labels_from_folders=True, **QUICK | change)


def test_without_an_anchor_no_encoder_is_asked(photos: Path, tmp_path: Path) -> None:
    options = QUICK | {"encoder": "timm:mobilenetv2_100", "anchor": False, "image_size": None}
    run = cluster_images(photos, 3, out=tmp_path / "run", **options)
    assert run.record["encoder"]["name"] == "pixels"
    assert run.record["encoder"]["n_views"] == 1
    assert run.record["best_epoch"] == 2
    assert not (tmp_path / "run" / "model" / "frozen").exists()
    folder = predict_images(run.folder, photos, n_workers=0, verbose=False)
    assert read_clusters(folder)[1].tolist() == run.labels_.tolist()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"train": "both"}, SourceError, "train='both' should be frozen or end-to-end"),
        ({"train": "frozen"}, SourceError, "are for train=end-to-end"),
        ({"train": "frozen", "resolution": None, "anchor": False}, SourceError, "are for train"),
        ({"resolution": 50}, MfavbsError, "got 50; take 48 or 52"),
        ({"resolution": 100}, MfavbsError, "got 100; take 96 or 112"),
        ({"resolution": 4}, MfavbsError, "got 4; take 8"),
        ({"grid": 2}, SourceError, "got grid=2; leave it out"),
        ({"dim": 20}, MfavbsError, "dim=20 should be a multiple of 8"),
        ({"batch_size": 1}, MfavbsError, "'batch_size' parameter"),
        ({"epochs": -1}, MfavbsError, "'epochs' parameter"),
        (
            {"encoder": "timm:mobilenetv2_100", "weights": "nowhere.safetensors"},
            EncoderError,
            "expected a file of weights, there is none",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    change: dict[str, Any], error: type[Exception], text: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        cluster_images(photos, 3, out=tmp_path / "run", **QUICK | change)
    assert not (tmp_path / "run").exists()


def test_features_have_no_pixels(photos: Path, run: Path, tmp_path: Path) -> None:
    options = {"n_views": 3, "device": "cpu", "n_workers": 0, "verbose": False}
    encoder = load_encoder("pixels", image_size=8)
    embed(open_images(photos), tmp_path / "store", encoder, **options)
    for source in (tmp_path / "store", np.ones((20, 5), np.float32)):
        with pytest.raises(SourceError, match="expected images with train=end-to-end, got"):
            cluster_images(source, 3, out=tmp_path / "run", **QUICK)
    with pytest.raises(SourceError, match="expected images"):
        predict_images(run, tmp_path / "store", out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["update", "refit"])
def test_it_is_not_brought_up_to_date(how: str, run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    cluster_images(tmp_path / "photos", 3, out=tmp_path / "run", **QUICK)
    paint(tmp_path / "photos" / "red" / "new.png", COLOURS["red"], 99)
    with pytest.raises(RunError, match="`mfavbs predict` answers new images"):
        cluster_images(tmp_path / "photos", 3, out=tmp_path / "run", **{how: True}, **QUICK)
    with pytest.raises(RunError, match=r"has changed since.*`mfavbs predict` answers what is new"):
        cluster_images(tmp_path / "photos", 3, out=tmp_path / "run", **QUICK)


def test_fewer_images_than_a_batch_are_one_batch(photos: Path, tmp_path: Path) -> None:
    run = cluster_images(photos / "red", 2, out=tmp_path / "run", **QUICK, batch_size=100)
    assert len(run.labels_) == 8
    with pytest.raises(SourceError, match=r"9 clusters|n_clusters=9"):
        cluster_images(photos / "red", 9, out=tmp_path / "other", **QUICK)


def test_without_memory_what_is_done_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cluster_images(photos, 3, out=tmp_path / "whole", **QUICK)
    judge, asked = pixel_fitting.judge_heads, []

    def no_room(*args: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:  # the end of the second epoch
            raise RuntimeError("CUDA error: out of memory")
        return judge(*args)

    monkeypatch.setattr(pixel_fitting, "judge_heads", no_room)
    with pytest.raises(MfavbsError, match=r"no memory left.*give batch_size=64"):
        cluster_images(photos, 3, out=tmp_path / "run", **QUICK)
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    monkeypatch.undo()
    run = cluster_images(photos, 3, out=tmp_path / "run", **QUICK)
    assert run.labels_.tolist() == whole.labels_.tolist()
    assert run.metrics["losses"] == whole.metrics["losses"]


def test_other_parameters_begin_an_unfinished_run_anew(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(pixel_fitting, "train_pixels", no_room)
        with pytest.raises(MfavbsError):
            cluster_images(photos, 3, out=tmp_path / "run", **QUICK)
    assert (tmp_path / "run" / "pixels").exists()
    options = QUICK | {"resolution": 12, "dim": 64}
    with pytest.warns(UserWarning, match="training begins anew"):
        run = cluster_images(photos, 3, out=tmp_path / "run", **options)
    whole = cluster_images(photos, 3, out=tmp_path / "whole", **options)
    assert run.labels_.tolist() == whole.labels_.tolist()
    assert run.metrics["losses"] == whole.metrics["losses"]


def test_a_cpu_is_warned_of(photos: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"There is no GPU here: .* minutes with train=frozen"):
        cluster_images(photos, 3, out=tmp_path / "run", **QUICK | {"epochs": 0})
