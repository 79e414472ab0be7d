"""A plan: stages that add up, what is had already, advice where it must come, nothing written."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from feature_blobs import blobs
from image_files import COLOURS, paint, write

from mfavbs import Plan, cluster_images, embed, load_encoder, open_images, plan, planning
from mfavbs.errors import MfavbsError, RunError, SourceError, StoreError

TINY = {"encoder": "pixels", "image_size": 8, "n_views": 2, "n_workers": 0, "device": "cpu"}
STAGES = ["listing", "starting", "features", "training", "questions", "map", "report"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "photos"
    for i in range(36):
        paint(folder / f"{i}.png", list(COLOURS.values())[i % 3], i)
    return folder


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_plan_has_every_stage_and_writes_nothing(photos: Path) -> None:
    before = files(photos.parent)
    made = plan(photos, 3, out=photos.parent / "run", **TINY)
    assert files(photos.parent) == before
    assert list(made.seconds) == STAGES
    assert all(seconds >= 0 for seconds in made.seconds.values())
    assert made.total == pytest.approx(sum(made.seconds.values()))
    assert min(made.seconds[name] for name in ("features", "training", "questions")) > 0
    assert (made.n_images, made.n_to_encode, made.n_clusters, made.device) == (36, 36, 3, "cpu")
    assert str(made).startswith("36 images, 3 clusters: about ")
    assert made.advice == []


def test_the_bytes_of_a_plan_are_those_of_the_run(photos: Path, tmp_path: Path) -> None:
    made = plan(photos, 3, **TINY)
    run = cluster_images(photos, 3, out=tmp_path / "run", epochs=1, verbose=False, **TINY)
    written = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
    assert written / 2 < made.disk < 2 * written
    assert made.disk <= made.disk_meanwhile < made.disk_free
    assert made.memory < made.memory_machine


def test_features_that_are_had_cost_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    encoder = load_encoder("pixels", image_size=8)
    options = {"n_views": 2, "n_workers": 0, "device": "cpu", "verbose": False}
    embed(open_images(photos), out / "features", encoder, **options)
    before = files(tmp_path)
    made = plan(photos, 3, out=out, **TINY)
    assert (made.n_to_encode, made.seconds["features"]) == (0, 0)
    assert made.advice == ["The features of 36 images are in the output folder already."]
    assert plan(photos, 3, **TINY).n_to_encode == 36
    assert files(tmp_path) == before
    with pytest.raises(StoreError, match=r"made with n_views=2, now n_views=3"):
        plan(photos, 3, out=out, **{**TINY, "n_views": 3})


def test_what_the_cache_has_is_not_encoded_and_no_cache_is_made(
    photos: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert plan(photos, 3, cache=cache, **TINY).n_to_encode == 36
    assert not cache.exists()
    embed(
        *(open_images(photos), tmp_path / "store", load_encoder("pixels", image_size=8)),
        **{"n_views": 2, "n_workers": 0, "device": "cpu", "verbose": False, "cache": cache},
    )
    before = files(cache)
    made = plan(photos, 3, cache=cache, **TINY)
    assert made.n_to_encode == 0
    assert made.advice == ["The cache has the features of about 100% of the others."]
    assert files(cache) == before


@pytest.mark.parametrize("given", ["array", "store", "npy"])
def test_features_are_planned_without_an_encoder(given: str, photos: Path, tmp_path: Path) -> None:
    source: object = blobs(60)[0].astype(np.float16)
    if given == "store":
        source = tmp_path / "store"
        options = {"n_views": 2, "n_workers": 0, "device": "cpu", "verbose": False}
        embed(open_images(photos), source, load_encoder("pixels", image_size=8), **options)
    if given == "npy":
        np.save(tmp_path / "features.npy", source)
        source = tmp_path / "features.npy"
    made = plan(source, 3, device="cpu")
    assert made.n_images == (36 if given == "store" else 60)
    assert made.n_to_encode == 0
    assert "features" not in made.seconds


@pytest.mark.parametrize("number", ["auto", (2, 9), (2, 5_000)])
def test_clusters_that_are_to_be_counted_are_a_stage(number: object) -> None:
    made = plan(blobs(60)[0], number, device="cpu", with_map=False)
    assert made.seconds["number of clusters"] > 0
    assert "map" not in made.seconds
    assert made.n_clusters == number


def test_more_images_take_longer() -> None:
    few, many = (plan(blobs(n, n_features=32)[0], 3, device="cpu") for n in (60, 6_000))
    for name in ("training", "questions", "map"):
        assert many.seconds[name] > few.seconds[name]
    assert many.disk > few.disk
    assert many.memory > few.memory


def test_too_many_clusters_are_told(photos: Path) -> None:
    assert "36 images are few for 5 clusters, 7.2 each" in plan(photos, 5, **TINY).advice[0]
    assert "n_clusters=3 or fewer" in plan(photos, 5, **TINY).advice[0]


def test_a_small_disk_and_a_small_memory_are_told(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 0, 10_000))
    monkeypatch.setattr(planning, "machine_memory", lambda: 10**6)
    disk, memory = plan(photos, 3, **TINY).advice
    assert "The disk is too small" in disk
    assert "out= on another disk" in disk
    assert "the machine has 1 MB" in memory


def test_a_slow_encoder_is_told_with_what_is_quicker() -> None:
    made = Plan(10**6, 10, 10**6, "cpu", {"features": 50_000.0}, *(1, 1, 2, 1, 2), [])
    asked = {"n_views": 5, "encoder": "open_clip:X", "image_size": None, "train": "frozen"}
    (told,) = planning.advise(made, 10**6, 10, asked, {})
    assert "The encoder is slow here: 13 h 53 min" in told
    assert "n_views=2, about 5 h 33 min" in told
    assert "timm:mobilenetv2_100" in told
    quick = Plan(10**6, 10, 10**6, "cpu", {"features": 500.0}, *(1, 1, 2, 1, 2), [])
    assert planning.advise(quick, 10**6, 10, asked, {}) == []


def test_images_that_cannot_be_read_are_told(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "mixed")
    for i in range(12):
        write(tmp_path / "mixed" / f"broken{i}.png", b"x")
    made = plan(tmp_path / "mixed", 3, **TINY)
    assert made.advice == ["About 25% of the images cannot be read; failures.csv will say why."]
    for i in range(12):
        write(tmp_path / "bad" / f"{i}.png", b"x")
    with pytest.raises(SourceError, match="none of 12 looked at can"):
        plan(tmp_path / "bad", 3, **TINY)


@pytest.mark.filterwarnings("ignore:There is no GPU")
@pytest.mark.parametrize("anchor", [True, False])
def test_from_pixels(anchor: bool, photos: Path) -> None:
    options = {"resolution": 8, "anchor": anchor, "epochs": 3, "batch_size": 8}
    made = plan(photos, 3, train="end-to-end", **TINY, **options)
    assert made.seconds["from pixels"] > 0
    assert ("training" in made.seconds) == anchor
    assert "There is no GPU here: training from pixels takes" in made.advice[0]


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"source": "nowhere"}, SourceError, "nowhere"),
        ({"n_clusters": 100}, SourceError, "36 images are too few for n_clusters=100"),
        ({"n_clusters": 1}, SourceError, "should be >= 2"),
        ({"weights": "no.safetensors", "encoder": "timm:mobilenetv2_100"}, MfavbsError, "no.safe"),
        ({"device": "tpu"}, MfavbsError, "tpu"),
        ({"n_heads": 3}, TypeError, "n_heads"),
    ],
)
def test_what_a_run_would_refuse_is_refused(
    given: dict, error: type[Exception], match: str, photos: Path
) -> None:
    with pytest.raises(error, match=match):
        plan(**{"source": photos, "n_clusters": 3, **TINY, **given})


def test_a_run_is_not_planned(tmp_path: Path) -> None:
    cluster_images(blobs()[0], 3, out=tmp_path / "run", epochs=1, verbose=False, device="cpu")
    with pytest.raises((SourceError, RunError), match="is a finished run"):
        plan(tmp_path / "run", 4)
