"""The command line as a process: what it prints, what it writes, how it fails."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
from command_line import mfavbs
from image_files import COLOURS, paint
from killing import count_touches, run_until

from mfavbs import FeatureStore, __version__

HOSTILE = "=cmd|' /C calc'!A0 <img src=x onerror=alert(1)>.png"
QUICK = ("--encoder", "pixels", "--image-size", 8, "--views", 3, "--epochs", 3, "--workers", 0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of eight images, a hostile name, a broken file and one that is no image."""
    folder = tmp_path_factory.mktemp("photos of mine é") / "photos"
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            paint(folder / name / f"{i}.png", colour, 10 * c + i)
    paint(folder / "red" / HOSTILE.replace("/", "⁄"), COLOURS["red"], 99)
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    (folder / "notes.md").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    out = photos.parent / "run"
    result = mfavbs(
        "cluster", photos, "-k", 3, *QUICK, "--labels-from-folders", "--out", out, "--json",
        folder=photos.parent,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert f"Left out, and why: {out / 'skipped.csv'} (1 row)" in result.err
    told = json.loads(result.out)
    assert (told["n_images"], told["n_failures"], told["n_skipped"]) == (25, 1, 1)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_run_folder_holds_what_the_contract_says(run: Path) -> None:
    labels = rows(run / "labels.csv")
    first = ["path", "cluster", "confidence", "label", "since"]
    assert list(labels[0])[:5] == first
    assert len(labels) == 25
    assert {row["label"] for row in labels} == set(COLOURS)
    table = pq.read_table(run / "labels.parquet")
    assert table.column_names[:5] == first
    assert {*labels[0], "trust", "hash", "probabilities"} <= set(table.column_names)
    assert np.allclose(
        table["trust"].to_numpy(), [float(r["confidence"]) for r in labels], atol=1e-4
    )
    assert np.allclose([sum(p) for p in table["probabilities"].to_pylist()], 1, atol=1e-5)
    assert [row["path"] for row in rows(run / "failures.csv")] == ["red/broken.jpg"]
    assert rows(run / "skipped.csv") == [{"path": "notes.md", "reason": "not an image by its name"}]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["scores"]["acc"] == 1.0
    assert metrics["baselines"]["k-means"]["acc"] > 0.9
    assert len(metrics["losses"]) == 3
    record = json.loads((run / "run.json").read_text())
    assert record["parameters"]["n_clusters"] == 3
    assert record["encoder"]["name"] == "pixels"
    assert {p.name for p in (run / "model").iterdir()} == {"config.json", "model.safetensors"}
    left_over = {p.name for p in run.iterdir()} - {
        "labels.csv", "labels.parquet", "failures.csv", "skipped.csv", "warnings.csv",
        "metrics.json", "run.json", "insight.json", "hierarchy.json", "map.parquet",
        "reference.safetensors",
        "model", "report.html", "thumbnails.parquet", "features",
    }  # fmt: skip
    assert not left_over


def test_hostile_names_are_text_everywhere(photos: Path, run: Path) -> None:
    assert "<img src=x" not in (run / "report.html").read_text()
    for row in rows(run / "labels.csv"):
        assert row["path"][0] not in "=+-@\t\r"
        assert (photos / row["path"]).is_file()


def test_source_is_left_as_it_was(photos: Path, run: Path) -> None:
    assert sorted(p.name for p in photos.iterdir()) == ["blue", "green", "notes.md", "red"]


def test_predict_on_the_training_images_gives_the_runs_labels(photos: Path, run: Path) -> None:
    result = mfavbs("predict", run, photos, "--workers", 0, "--json", folder=photos.parent)
    assert result.code == 0, result.err
    predicted = rows(Path(json.loads(result.out)["labels"]))
    expected = rows(run / "labels.csv")
    assert [(r["path"], r["cluster"]) for r in predicted] == [
        (r["path"], r["cluster"]) for r in expected
    ]


def test_predict_on_new_images(photos: Path, run: Path, tmp_path: Path) -> None:
    for i, (name, colour) in enumerate(COLOURS.items()):
        paint(tmp_path / "new" / f"{name}.png", colour, 500 + i)
    out = tmp_path / "predicted"
    result = mfavbs("predict", run, tmp_path / "new", "--out", out, folder=tmp_path)
    assert result.code == 0, result.err
    known = {row["label"]: row["cluster"] for row in rows(run / "labels.csv")}
    for row in rows(out / "labels.csv"):
        assert row["cluster"] == known[Path(row["path"]).stem]


def test_predict_says_what_was_left_out(run: Path, tmp_path: Path) -> None:
    paint(tmp_path / "new" / "a.png", COLOURS["blue"], 1)
    (tmp_path / "new" / "b.png").touch()
    (tmp_path / "new" / "c.txt").touch()
    result = mfavbs("predict", run, "new", "--out", "out", "--json", folder=tmp_path)
    assert "1 image in 1 of the run's clusters" in result.err
    assert "1 could not be read: out/failures.csv" in result.err
    assert "Left out, and why: out/skipped.csv (1 row)" in result.err
    counts = {"n_images": 1, "n_failures": 1, "n_skipped": 1, "n_warnings": 0}
    told = json.loads(result.out)
    assert told.pop("insight")["drift"]["n"] == 1
    assert told == {"labels": "out/labels.csv"} | counts


def test_exclude_in_every_command_that_searches(photos: Path, run: Path, tmp_path: Path) -> None:
    options = ("--exclude", "blue", "--exclude", "green/[0-3].png", "--workers", 0)
    encoder = ("--encoder", "pixels", "--image-size", 8, "--views", 2)
    for command in (
        ("embed", photos, "--out", "store", *encoder),
        ("predict", run, photos, "--out", "predicted"),
        ("cluster", photos, "-k", 2, "--out", "run", "--epochs", 2, *encoder),
    ):
        result = mfavbs(*command, *options, folder=tmp_path)
        assert result.code == 0, result.err
        out = tmp_path / command[command.index("--out") + 1]
        table = FeatureStore.open(out).tables if command[0] == "embed" else out
        left_out = rows(table / "skipped.csv")
        assert [row["path"] for row in left_out] == [
            "blue/", *(f"green/{i}.png" for i in range(4)), "notes.md",
        ]  # fmt: skip
    result = mfavbs("cluster", "store", "-k", 2, *options, folder=tmp_path)
    assert result.code == 1
    assert "encoded already" in result.err


def test_evaluate_against_a_csv(run: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    with open(truth, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows((r["path"], r["label"]) for r in rows(run / "labels.csv"))
    result = mfavbs("evaluate", run, "--truth", truth, "--json", folder=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out) == pytest.approx({"acc": 1, "nmi": 1, "ari": 1, "coverage": 1})


def test_report_again(run: Path, tmp_path: Path) -> None:
    (run / "report.html").unlink()
    assert mfavbs("report", run, folder=tmp_path).code == 0
    assert (run / "report.html").stat().st_size > 10_000


def test_embed_then_cluster_the_store(photos: Path, run: Path, tmp_path: Path) -> None:
    embedded = mfavbs(
        "embed", photos, "--out", "store", *QUICK[:6], "--workers", 0, folder=tmp_path
    )
    assert embedded.code == 0, embedded.err
    result = mfavbs("cluster", "store", "-k", 3, "--epochs", 3, "--out", "run", folder=tmp_path)
    assert result.code == 0, result.err
    clusters = [r["cluster"] for r in rows(tmp_path / "run" / "labels.csv")]
    assert clusters == [r["cluster"] for r in rows(run / "labels.csv")]


def test_a_store_of_other_parameters_is_refused_with_both(photos: Path, tmp_path: Path) -> None:
    embed = ("embed", photos, "--out", "store", "--encoder", "pixels", "--workers", 0)
    assert mfavbs(*embed, "--image-size", 8, "--seed", 1, folder=tmp_path).code == 0
    before = FeatureStore.open(tmp_path / "store").features.tobytes()
    result = mfavbs(*embed, "--image-size", 8, "--seed", 2, folder=tmp_path)
    assert result.code == 1
    assert "--seed 1" in result.err
    assert "--seed 2" in result.err
    assert FeatureStore.open(tmp_path / "store").features.tobytes() == before


def test_npy_of_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 16)
    np.save(tmp_path / "f.npy", np.repeat(centres, 10, 0) + rng.normal(0, 0.05, (30, 16)))
    result = mfavbs("cluster", "f.npy", "-k", 3, "--epochs", 3, folder=tmp_path)
    assert result.code == 0, result.err
    clusters = np.array([int(r["cluster"]) for r in rows(tmp_path / "mfavbs-f" / "labels.csv")])
    assert all(len(set(clusters[i : i + 10])) == 1 for i in (0, 10, 20))
    assert len(set(clusters)) == 3


def make_bad(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    for name in "abc":
        (folder / "broken" / f"{name}.jpg").write_bytes(b"")
    (folder / "two").mkdir()
    for i in range(2):
        paint(folder / "two" / f"{i}.png", COLOURS["red"], i)
    features = np.random.default_rng(0).normal(size=(20, 4))
    features[[3, 7], 2] = np.nan
    np.save(folder / "nan.npy", features)
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("do not touch")
    (folder / "junk.safetensors").write_bytes(b"junk")


TWO = ("cluster", "two", "-k", 2, *QUICK)
RESNET = ("cluster", "two", "-k", 2, "--encoder", "timm:resnet18", "--weights")
BAD = {
    "missing source": (("cluster", "nowhere", "-k", 2, *QUICK), "nowhere"),
    "empty folder": (("cluster", "empty", "-k", 2, *QUICK), "empty"),
    "no readable image": (("cluster", "broken", "-k", 2, *QUICK), "0 bytes"),
    "fewer images than clusters": (("cluster", "two", "-k", 3, *QUICK), "2 images are too few"),
    "k below two": (("cluster", "two", "-k", 1, *QUICK), "-k 1 should be >= 2"),
    "unknown encoder": (("cluster", "two", "-k", 2, "--encoder", "timm:resnet5O"), "resnet50"),
    "weights missing": ((*RESNET, "no.pt"), "no.pt"),
    "weights unreadable": ((*RESNET, "junk.safetensors"), "junk.safetensors"),
    "not finite": (("cluster", "nan.npy", "-k", 2), "3, 7"),
    "out is someone's": ((*TWO, "--out", "mine", "--overwrite"), "not a run folder"),
    "out is a file": ((*TWO, "--out", "nan.npy"), "not a run folder"),
    "labels from one folder": ((*TWO, "--labels-from-folders"), "--labels-from-folders"),
    "not a run": (("report", "two"), "run.json"),
    "predict without a run": (("predict", "two", "two"), "run.json"),
    "no store": (("cluster", "nan.txt", "-k", 2), "nan.txt"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_message_and_code_1(case: str, tmp_path: Path) -> None:
    make_bad(tmp_path)
    arguments, message = BAD[case]
    result = mfavbs(*arguments, folder=tmp_path)
    assert result.code == 1, result.err
    assert message in result.err
    assert "Error: " in result.err
    assert "Traceback" not in result.err
    assert result.out == ""
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "do not touch"


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    for arguments in (("--debug", "report", "nowhere"), ("report", "nowhere", "--debug")):
        result = mfavbs(*arguments, folder=tmp_path)
        assert result.code == 1
        assert "Traceback" in result.err


@pytest.mark.parametrize(
    "arguments", [("cluster",), ("cluster", "x"), ("nonsense",), ("embed", "x")]
)
def test_wrong_usage_is_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert mfavbs(*arguments, folder=tmp_path).code == 2


def test_a_finished_run_is_not_overwritten_unasked(run: Path, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "run"
    shutil.copytree(run, kept)
    before = (kept / "run.json").read_bytes()
    refused = mfavbs("cluster", photos, "-k", 3, *QUICK, "--out", kept, folder=tmp_path)
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert (kept / "run.json").read_bytes() == before
    done = mfavbs("cluster", photos, "-k", 2, *QUICK, "--out", kept, "--overwrite", folder=tmp_path)
    assert done.code == 0, done.err
    assert json.loads((kept / "run.json").read_text())["parameters"]["n_clusters"] == 2


def test_nobody_elses_folder_is_overwritten(run: Path, photos: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "experiment"
    (theirs / "model").mkdir(parents=True)
    (theirs / "run.json").write_text("[]")
    (theirs / "model" / "mine.bin").write_bytes(b"mine")
    (theirs / "labels.csv").write_text("mine")
    for arguments in (
        ("cluster", photos, "-k", 3, *QUICK, "--out", theirs, "--overwrite"),
        ("predict", run, photos, "--out", theirs),
    ):
        result = mfavbs(*arguments, folder=tmp_path)
        assert result.code == 1, result.err
        assert str(theirs) in result.err
    assert (theirs / "model" / "mine.bin").read_bytes() == b"mine"
    assert (theirs / "labels.csv").read_text() == "mine"
    assert len(list(theirs.iterdir())) == 3


def test_a_run_may_be_overwritten_from_its_own_features(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "run"
    shutil.copytree(run, own)
    again = ("cluster", own, "-k", 2, "--epochs", 3, "--out", own, "--overwrite")
    assert mfavbs(*again, folder=tmp_path).code == 0
    assert (own / "features" / "store.json").exists()
    assert json.loads((own / "metrics.json").read_text())["n_clusters"] == 2


def test_predict_with_a_run_that_was_made_from_features(photos: Path, tmp_path: Path) -> None:
    for arguments in (
        ("embed", photos, "--out", "store", *QUICK[:6], "--seed", 5),
        ("cluster", "store", "-k", 3, "--epochs", 3, "--out", "run"),
        ("predict", "run", photos, "--out", "predicted"),
    ):
        result = mfavbs(*arguments, folder=tmp_path)
        assert result.code == 0, result.err
    clusters = [r["cluster"] for r in rows(tmp_path / "run" / "labels.csv")]
    assert [r["cluster"] for r in rows(tmp_path / "predicted" / "labels.csv")] == clusters


def test_an_unfinished_run_of_another_source_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    begun = {"n_clusters": 3, "encoder": "pixels", "source": "folder elsewhere"}
    (tmp_path / "run" / "unfinished.json").write_text(json.dumps(begun))
    result = mfavbs("cluster", photos, "-k", 3, *QUICK, "--out", "run", folder=tmp_path)
    assert result.code == 1
    assert "folder elsewhere" in result.err
    assert json.loads((tmp_path / "run" / "unfinished.json").read_text()) == begun


def test_a_run_of_a_newer_schema_is_refused(run: Path, tmp_path: Path) -> None:
    newer = tmp_path / "run"
    shutil.copytree(run, newer)
    record = json.loads((newer / "run.json").read_text())
    (newer / "run.json").write_text(json.dumps({**record, "schema": 99}))
    result = mfavbs("report", newer, folder=tmp_path)
    assert result.code == 1
    assert "99" in result.err


def test_the_same_seed_gives_the_same_labels(photos: Path, run: Path, tmp_path: Path) -> None:
    result = mfavbs("cluster", photos, "-k", 3, *QUICK, "--out", "again", folder=tmp_path)
    assert result.code == 0, result.err
    again = [
        (r["path"], r["cluster"], r["confidence"]) for r in rows(tmp_path / "again" / "labels.csv")
    ]
    assert again == [(r["path"], r["cluster"], r["confidence"]) for r in rows(run / "labels.csv")]


def test_help_and_version_as_installed(tmp_path: Path) -> None:
    script = shutil.which("mfavbs", path=os.path.dirname(sys.executable))
    assert script is not None
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    for command in ("demo", "cluster", "embed", "predict", "evaluate", "report", "bench"):
        assert command in shown.stdout
    version = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == __version__


@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_killed_or_ctrl_c_at_any_moment_a_run_goes_on_to_the_same_labels(
    how: int,
    code: int,
    photos: Path,
    run: Path,
    tmp_path: Path,
    kill_points: Callable[[int], list[int]],
) -> None:
    cluster = ("cluster", photos, "-k", 3, *QUICK, "--labels-from-folders", "--out")
    whole = tmp_path / "whole"
    for touch in kill_points(count_touches(*cluster, whole, folder=tmp_path, watched=whole)):
        out = tmp_path / f"ended-{touch}"
        ended = run_until(touch, *cluster, out, folder=tmp_path, watched=out, how=how)
        assert ended.code == code
        assert ("goes on from there" in ended.err) == (how == signal.SIGINT)
        assert "Traceback" not in ended.err
        again = mfavbs(*cluster, out, folder=tmp_path)
        assert again.code == 0, again.err
        assert (out / "labels.csv").read_bytes() == (run / "labels.csv").read_bytes()
        assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


def test_augment_is_the_runs_and_none_is_one_view(tmp_path: Path) -> None:
    for i in range(8):
        paint(tmp_path / "photos" / f"{i}.png", COLOURS["red" if i % 2 else "blue"], i)
    quick = ("--encoder", "pixels", "--image-size", 8, "--epochs", 1, "--workers", 0)
    asked = ("cluster", "photos", "-k", 2, *quick)
    for augment, n_views in (("none", 1), ("rotate", 5)):
        ended = mfavbs(*asked, "--augment", augment, "--out", augment, folder=tmp_path)
        assert ended.code == 0, ended.err
        record = json.loads((tmp_path / augment / "run.json").read_text(encoding="utf-8"))
        assert record["encoder"]["augment"] == augment
        assert record["encoder"]["n_views"] == n_views
        assert ("nearer to their own image than to 7 others: " in ended.err) == (n_views > 1)
        told = mfavbs(*asked, "--out", augment, folder=tmp_path)
        assert told.code == 1
        assert f"--augment {augment}" in told.err
        assert "now" in told.err


def test_a_range_of_grey_values_holds_for_the_run_its_report_and_predictions(
    tmp_path: Path,
) -> None:
    """A camera's counts of 100 to 160: four groups, of which nothing is seen in 0 to 65535."""
    for group in range(4):
        for i in range(4):
            counts = np.full((8, 8), 100 + 20 * group, np.uint16)
            counts[i, :] += i
            path = tmp_path / "counts" / str(group) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(counts).save(path)
    asked = ("cluster", "counts", "-k", 4, *QUICK, "--labels-from-folders")
    blind = mfavbs(*asked, "--out", "blind", folder=tmp_path)
    assert blind.code == 0, blind.err
    assert "not without a warning: blind/warnings.csv" in blind.err
    reason = rows(tmp_path / "blind" / "warnings.csv")[0]["reason"]
    assert "--range LOW HIGH or auto" in reason
    seeing = mfavbs(*asked, "--range", 100, 163, "--out", "run", folder=tmp_path)
    assert seeing.code == 0, seeing.err
    assert rows(tmp_path / "run" / "warnings.csv") == []
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["encoder"]["range"] == [100, 163]
    seen = FeatureStore.open(tmp_path / "run" / "features").features[:, 0, 0].round(2)
    unseen = FeatureStore.open(tmp_path / "blind" / "features").features[:, 0, 0].round(2)
    assert len(np.unique(unseen, axis=0)) < len(np.unique(seen, axis=0)) == 16
    assert mfavbs("predict", "run", "counts", "--out", "new", folder=tmp_path).code == 0
    store = json.loads((tmp_path / "new" / "features" / "store.json").read_text())
    assert store["range"] == [100, 163]
    measured = mfavbs(*asked, "--range", "auto", "--out", "auto", folder=tmp_path)
    assert measured.code == 0, measured.err
    record = json.loads((tmp_path / "auto" / "run.json").read_text())
    assert record["encoder"]["range"] == pytest.approx([100, 163], abs=1)
    wrong = mfavbs(*asked, "--range", 9, 2, "--out", "wrong", folder=tmp_path)
    assert wrong.code == 1
    assert "LOW < HIGH" in wrong.err


def test_one_picture_does_not_cost_the_run(tmp_path: Path) -> None:
    for i in range(6):
        paint(tmp_path / "photos" / f"{i}.png", (40 * i, 0, 0), i)
    with open(tmp_path / "photos" / "sparse.jpg", "wb") as file:
        file.truncate(2**40)  # a terabyte of nothing
    whole = (tmp_path / "photos" / "5.png").read_bytes()
    (tmp_path / "photos" / "5.png").write_bytes(whole[: len(whole) - 16 - len(whole) // 4])
    result = mfavbs("cluster", "photos", "-k", 2, *QUICK, "--out", "run", folder=tmp_path)
    assert result.code == 0, result.err
    [failure] = rows(tmp_path / "run" / "failures.csv")
    assert failure["path"] == "sparse.jpg"
    assert "a file of 1,099,512 MB; 1,000 MB are allowed" in failure["reason"]
    [warning] = rows(tmp_path / "run" / "warnings.csv")
    assert warning["path"] == "5.png"
    assert "<code>warnings.csv</code>" in (tmp_path / "run" / "report.html").read_text()
    small = mfavbs(
        *("cluster", "photos", "-k", 2, *QUICK, "--out", "run2", "--image-memory", 1),
        folder=tmp_path,
    )
    assert small.code == 0, small.err
