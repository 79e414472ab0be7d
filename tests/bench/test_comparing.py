"""`mfavbs bench`: what it measures, writes, goes on with and refuses."""

import csv
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import ended, mfavbs, start
from feature_blobs import blobs, save_store
from image_files import COLOURS, paint
from killing import members, wait_until

from mfavbs.bench import comparing, methods
from mfavbs.bench.ablations import OURS, with_tokens
from mfavbs.bench.comparing import bench
from mfavbs.bench.peers import PEERS
from mfavbs.bench.table import markdown, row_of
from mfavbs.bench.trial import TrialError, run_trial
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.features.store import FeatureStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    features, y = blobs()
    return save_store(tmp_path_factory.mktemp("bench") / "blobs", y, features)


@pytest.fixture
def trials(store: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Trials that answer at once, in this process: the truth, but for ``seed`` wrong images."""
    run: list[tuple[str, int]] = []
    truth = np.array([int(label) for label in FeatureStore.open(store).labels or []])

    def answer(folder, name, k, seed, device, log):
        run.append((name, seed))
        if name == "gmm":
            raise TrialError("ImportError: no such package\x1b[2J [bold]")
        labels = truth.copy()
        labels[:seed] = (labels[:seed] + 1) % 3
        if k > 3:
            labels[::2] += 3
        return {"labels": labels, "seconds": 1.0 + seed, "peak_memory_mib": 100.0 + seed}

    monkeypatch.setattr(comparing, "run_trial", answer)
    return run


def test_methods_from_pixels_beside_the_others(tmp_path: Path) -> None:
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            paint(tmp_path / "photos" / name / f"{i}.png", colour, 10 * c + i)
    options = {"out": tmp_path / "out", "seeds": [0], "encoder": "pixels", "image_size": 8}
    options |= {"n_views": 3, "n_workers": 0, "device": "cpu", "verbose": False, "epochs": 1}
    names = ["mfavbs", "end-to-end", "vtcc", "pixels-anchor-off"]
    found = bench(tmp_path / "photos", names, resolution=8, **options)
    assert [row["n_seeds"] for row in found["rows"]] == [1] * 4
    assert found["rows"][1]["nmi_mean"] == 1
    one = json.loads((tmp_path / "out" / "results" / "vtcc-0.json").read_text())
    expected = {"objective": "paper", "fusion": "none", "image_size": 8, "epochs": 1}
    assert {name: one["parameters"][name] for name in expected} == expected
    with pytest.raises(RunError, match=r"image_size|other"):
        bench(tmp_path / "photos", ["vtcc"], resolution=12, **options)
    for resolution, text in ((50, "got 50; take 48"), (4, "got 4; take 8")):
        with pytest.raises(SourceError, match=text):
            bench(tmp_path / "photos", ["vtcc"], resolution=resolution, **options)


def test_features_alone_have_no_pixels(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected images for vtcc, got features"):
        bench(store, ["kmeans", "vtcc"], out=tmp_path / "out", verbose=False)
    assert not (tmp_path / "out").exists()


def test_a_row_for_each_method_in_three_files(store: Path, tmp_path: Path, trials: list) -> None:
    out = tmp_path / "out"
    summary = bench(store, ["mfavbs", "kmeans"], out=out, seeds=[0, 9], verbose=False)
    assert [row["method"] for row in summary["rows"]] == ["mfavbs", "kmeans"]
    row = summary["rows"][0]
    assert row["n_seeds"] == 2
    assert row["acc_mean"] == pytest.approx(0.95)
    assert row["acc_sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert row["acc_worst"] == pytest.approx(0.9)
    assert row["seconds"] == 5.5
    assert row["peak_memory_mib"] == 109
    assert json.loads((out / "bench.json").read_text()) == summary
    with open(out / "bench.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(r["acc_mean"]) for r in rows] == pytest.approx([0.95, 0.95])
    text = (out / "bench.md").read_text()
    assert "| mfavbs | 0.950 ± 0.071 | 0.900 |" in text
    assert summary["machines"][0] in text
    assert "purity" not in text
    one = json.loads((out / "results" / "mfavbs-9.json").read_text())
    assert one["scores"]["acc"] == pytest.approx(0.9)
    assert one["parameters"]["n_blocks"] == 1
    table = pq.read_table(out / "results" / "mfavbs-9.parquet")
    assert table.column_names == ["path", "label", "cluster"]
    assert table["path"][0].as_py() == f"{table['label'][0].as_py()}/0.png"
    hits = [
        int(label) == c for label, c in zip(*(table[n].to_pylist() for n in ("label", "cluster")))
    ]
    assert np.mean(hits) == pytest.approx(one["scores"]["acc"])


def test_finished_trials_are_not_run_again(store: Path, tmp_path: Path, trials: list) -> None:
    options = {"out": tmp_path / "out", "verbose": False}
    bench(store, ["mfavbs"], seeds=[0, 1], **options)
    before = (tmp_path / "out" / "results" / "mfavbs-1.json").stat().st_mtime_ns
    trials.clear()
    summary = bench(store, ["mfavbs", "kmeans"], seeds=[0, 1, 2], **options)
    assert trials == [("mfavbs", 2), ("kmeans", 0), ("kmeans", 1), ("kmeans", 2)]
    assert (tmp_path / "out" / "results" / "mfavbs-1.json").stat().st_mtime_ns == before
    assert [row["n_seeds"] for row in summary["rows"]] == [3, 3]


def test_results_of_something_else_are_refused_with_both_values(
    store: Path, tmp_path: Path, trials: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"out": tmp_path / "out", "seeds": [0], "verbose": False}
    bench(store, ["paper"], **options)
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(RunError, match=r"n_clusters=3, now n_clusters=4 .*out="):
        bench(store, ["kmeans", "paper"], n_clusters=4, **options)
    features, y = blobs(seed=1)
    other = save_store(tmp_path / "other", y[::-1], features)
    with pytest.raises(RunError, match=r"contents='\w+', now contents='\w+'"):
        bench(other, ["paper"], **options)
    monkeypatch.setitem(OURS, "paper", {"objective": "paper", "dim": 64})
    with pytest.raises(RunError, match="dim=128, now dim=64"):
        bench(store, ["paper"], **options)
    assert trials == [("paper", 0)]
    assert files == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}


def test_the_trial_that_runs_is_named(
    store: Path, tmp_path: Path, trials: list, capfd: pytest.CaptureFixture[str]
) -> None:
    bench(store, ["mfavbs", "gmm", "kmeans"], out=tmp_path / "out", seeds=[0, 1])
    lines = [line for line in capfd.readouterr().err.splitlines() if "is running" in line]
    assert [line.partition(" is running")[0] for line in lines] == [
        "bench: 0 of 6 trials, mfavbs, seed 0",
        "bench: 1 of 6 trials, mfavbs, seed 1",
        "bench: 2 of 6 trials, gmm, seed 0",  # whose seed 1 is not tried
        "bench: 4 of 6 trials, kmeans, seed 0",
        "bench: 5 of 6 trials, kmeans, seed 1",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["umap", "evoc"])
def test_what_a_peer_compiles_is_compiled_before_its_seconds(name: str) -> None:
    event = pytest.importorskip("numba.core.event")
    pytest.importorskip(name)
    features = np.random.default_rng(0).normal(size=(600, 2, 1, 16)).astype(np.float32)
    methods.prepare(name, features)
    with event.install_recorder("numba:compile") as recorder:
        methods.cluster(name, features, 3, 0, "cpu")
    assert not [e.data["dispatcher"] for _, e in recorder.buffer if e.is_start]


def test_a_method_that_fails_is_a_row_with_its_reason(
    store: Path, tmp_path: Path, trials: list
) -> None:
    options = {"out": tmp_path / "out", "seeds": [0, 1], "verbose": False}
    summary = bench(store, ["gmm", "kmeans"], **options)
    assert trials == [("gmm", 0), ("kmeans", 0), ("kmeans", 1)]
    failed, fine = summary["rows"]
    assert failed["acc_mean"] is None
    assert "seed 0: ImportError: no such package" in failed["error"]
    assert fine["error"] is None
    assert "gmm failed: seed 0: ImportError" in (tmp_path / "out" / "bench.md").read_text()
    trials.clear()
    bench(store, ["gmm", "kmeans"], **options)  # what failed may have been mended
    assert trials == [("gmm", 0)]


def test_over_clustering_has_purity(store: Path, tmp_path: Path, trials: list) -> None:
    summary = bench(store, ["kmeans"], n_clusters=6, out=tmp_path / "out", seeds=[0], verbose=False)
    row = summary["rows"][0]
    assert row["purity_mean"] == 1
    assert row["acc_mean"] == pytest.approx(0.5)
    assert row["acc_sd"] is None
    assert "| purity |" in markdown(summary)


def test_a_row_without_results() -> None:
    row = row_of("kmeans", [], "why")
    assert row["n_seeds"] == 0
    assert {value for key, value in row.items() if "_" in key and key != "n_seeds"} == {None}


def test_every_method_exists_and_takes_what_it_is_given() -> None:
    for name in [*PEERS, *OURS]:
        assert json.dumps(methods.parameters_of(name)) is not None, name
    assert not OURS.keys() & PEERS.keys()


def test_fewer_tokens_are_averages_over_the_grid() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 2, 17, 5)).astype(np.float16)
    assert with_tokens(features, 1).shape == (3, 2, 1, 5)
    five = with_tokens(features, 5)
    assert five.shape == (3, 2, 5, 5)
    assert np.array_equal(five[:, :, 0], features[:, :, 0])
    # The grid's cells follow row by row: the upper right quarter of 4 × 4 is 2, 3, 6, 7.
    quarter = features[:, :, [3, 4, 7, 8]].astype(np.float32).mean(2)
    assert np.allclose(five[:, :, 2], quarter, atol=2e-3)
    assert with_tokens(features, 17) is not None
    with pytest.raises(SourceError, match=r"have 5 tokens a view .* 17 cannot .* grid=4"):
        with_tokens(five, 17)


def test_what_cannot_be_compared_is_said_before_any_work(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(MfavbsError, match=r"'kmean'.* kmeans, .*gmm.*Did you mean kmeans"):
        bench(store, ["kmean"], out=out)
    with pytest.raises(SourceError, match=r"nowhere does not exist.*cifar10, "):
        bench("nowhere", ["kmeans"], out=out)
    np.save(tmp_path / "f.npy", np.zeros((4, 2)))
    with pytest.raises(SourceError, match=r"f\.npy has no labels .*sub-folder"):
        bench(tmp_path / "f.npy", ["kmeans"], out=out)
    assert not out.exists()
    with pytest.raises(SourceError, match=r"n_clusters=1 .*2\.\.90"):
        bench(store, ["kmeans"], n_clusters=1, out=out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="not the folder of a bench"):
        bench(store, ["kmeans"], out=tmp_path / "mine")


@pytest.mark.slow
def test_a_trial_has_a_process_of_its_own(store: Path, tmp_path: Path) -> None:
    held = np.ones(2**28)  # 2 GiB in this process, of which the trial's peak knows nothing
    began = time.perf_counter()
    answer = run_trial(store, "kmeans", 3, 0, "cpu", tmp_path / "log")
    assert 0 < answer["seconds"] < time.perf_counter() - began
    assert len(held) / 2**17 > answer["peak_memory_mib"] > 50
    assert len(set(answer["labels"])) == 3
    assert not (tmp_path / "log").exists()
    with pytest.raises(TrialError, match=r"^The features have 1 tokens"):
        run_trial(store, "tokens-5", 3, 0, "cpu", tmp_path / "log")
    assert "Traceback" in (tmp_path / "log").read_text()


def test_as_a_process(store: Path, tmp_path: Path) -> None:
    arguments = ("bench", store, "--methods", "kmeans,tokens-5", "--seeds", "0,", "--json")
    result = mfavbs(*arguments, folder=tmp_path)
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert summary["rows"][0]["acc_mean"] == 1
    assert "tokens-5 failed" in result.err
    assert "1.000" in result.err
    assert {path.name for path in (tmp_path / "bench-blobs").iterdir()} == {
        "results", "bench.json", "bench.csv", "bench.md",
    }  # fmt: skip
    again = mfavbs(*arguments, "-k", 4, folder=tmp_path)
    assert again.code == 1
    assert "-k 3, now -k 4" in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--methods", "nonsense"), 1, "kmeans"),
        (("--seeds", "many"), 2, "0,5,7"),
        (("--seeds", "0"), 2, "0,5,7"),
        (("--out", "."), 1, "not the folder of a bench"),
    ],
)
def test_bad_usage(store: Path, tmp_path: Path, arguments: tuple, code: int, message: str) -> None:
    result = mfavbs("bench", store, *arguments, folder=tmp_path)
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_goes_on(how: int, store: Path, tmp_path: Path) -> None:
    command = ("bench", store, "--methods", "kmeans", "--seeds", 2, "--json")
    results = tmp_path / "bench-blobs" / "results"
    process = start(*command, folder=tmp_path)
    assert process.pid is not None
    wait_until((results / "kmeans-0.json").exists)
    wait_until((results / "kmeans-1.log").exists)  # the second has begun
    os.kill(process.pid, how)
    code, _, err = ended(process, tmp_path)
    wait_until(lambda: not members(process.pid))  # the trial does not live on
    assert [path.name for path in results.glob("*.json")] == ["kmeans-0.json"]
    if how == signal.SIGINT:
        assert code == 130
        assert "goes on from there" in err
    before = (results / "kmeans-0.json").stat().st_mtime_ns
    result = mfavbs(*command, folder=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out)["rows"][0]["n_seeds"] == 2
    assert (results / "kmeans-0.json").stat().st_mtime_ns == before
    assert not list(results.glob("*.log"))


@pytest.mark.slow
def test_images_are_embedded_once(tmp_path: Path) -> None:
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(6):
            paint(tmp_path / "photos" / name / f"{i}.png", colour, 10 * c + i)
    (tmp_path / "photos" / "red" / "broken.png").write_bytes(b"not a picture")
    command = ("bench", "photos", "--methods", "mfavbs", "--methods", "kmeans", "--seeds", 1)
    command = (*command, "--encoder", "pixels", "--image-size", 8, "--workers", 0, "--json")
    result = mfavbs(*command, folder=tmp_path)
    assert result.code == 0, result.err
    assert [row["acc_mean"] for row in json.loads(result.out)["rows"]] == [1, 1]
    assert "18 images (1 more could not be read)" in result.err
    store = tmp_path / "bench-photos" / "features" / "store.json"
    before = store.stat().st_mtime_ns
    again = mfavbs(*command, folder=tmp_path)
    assert json.loads(again.out) == json.loads(result.out)
    assert store.stat().st_mtime_ns == before
    paint(tmp_path / "photos" / "red" / "new.png", COLOURS["red"], 99)
    refused = mfavbs(*command, folder=tmp_path)
    assert refused.code == 1
    assert "made with contents=" in refused.err
