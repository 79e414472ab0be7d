"""The whole flow in Python: the run that is there already, labels with gaps, the yardstick."""

from pathlib import Path

import numpy as np
import pytest
from feature_blobs import blobs
from image_files import COLOURS, paint, write
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from mfavbs import recording
from mfavbs.clustering import cluster_images
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.recording import kmeans
from mfavbs.report.data import collect

QUICK = {"epochs": 2, "verbose": False, "device": "cpu"}


def features(seed: int = 0) -> np.ndarray:
    return blobs(seed=seed)[0][:, 0, 0]


def test_a_run_that_is_there_is_given_back_and_another_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = cluster_images(features(), 3, out=out, **QUICK)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.warns(UserWarning, match="Nothing to do"):
        again = cluster_images(features(), 3, out=out, **QUICK)
    assert again.labels_.tolist() == first.labels_.tolist()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    for changed, name in (
        ({"n_clusters": 2}, "n_clusters"),
        ({"seed": 1}, "seed"),
        ({"source": features(seed=1)}, "source"),
        ({"labels": ["x"] * 90}, "labels"),
    ):
        given = {"source": features(), "n_clusters": 3, **QUICK, **changed}
        with pytest.raises(
            RunError, match=rf"already holds a run, made with {name}=.*Give another"
        ):
            cluster_images(**given, out=out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_where_only_the_report_is_missing_it_is_written(tmp_path: Path) -> None:
    cluster_images(features(), 3, out=tmp_path / "run", **QUICK)
    record = (tmp_path / "run" / "run.json").read_bytes()
    (tmp_path / "run" / "report.html").unlink()
    cluster_images(features(), 3, out=tmp_path / "run", **QUICK)
    assert (tmp_path / "run" / "report.html").exists()
    assert (tmp_path / "run" / "run.json").read_bytes() == record


def test_labels_with_gaps_are_scored_with_their_coverage(tmp_path: Path) -> None:
    y = blobs()[1]
    labels = [str(label) if i % 3 else ["", None, float("nan")][i % 9 // 3]
              for i, label in enumerate(y)]  # fmt: skip
    run = cluster_images(features(), 3, out=tmp_path / "run", labels=labels, **QUICK)
    assert run.metrics["scores"].keys() == {"acc", "nmi", "ari"}
    assert run.metrics["coverage"] == pytest.approx(2 / 3)
    assert run.metrics["baselines"]["k-means"]["acc"] == 1
    assert (run.label < 0).tolist() == [i % 3 == 0 for i in range(90)]
    assert "66.7" in (tmp_path / "run" / "report.html").read_text()


def test_the_yardstick_of_many_images_is_as_good_as_all_its_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 1, 1, 8)).astype(np.float32)
    unit = x[:, 0, 0] / np.linalg.norm(x[:, 0, 0], axis=1, keepdims=True)

    def inertia(labels: np.ndarray) -> float:
        return sum(((unit[labels == c] - unit[labels == c].mean(0)) ** 2).sum() for c in range(5))

    whole = KMeans(5, n_init=10, random_state=0).fit(unit)
    assert (kmeans(x, 5, 0) == whole.labels_).all()
    monkeypatch.setattr(recording, "_KMEANS_SAMPLE", 500)
    sampled = kmeans(x, 5, 0)
    assert inertia(sampled) <= 1.01 * whole.inertia_
    assert (kmeans(x, 5, 0) == sampled).all()


def test_a_run_of_a_list_knows_its_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(12):
        paint(tmp_path / "photos" / f"{i}.png", list(COLOURS.values())[i % 3], i)
    monkeypatch.chdir(tmp_path)
    paths = [f"photos/{i}.png" for i in range(11)] + [str(tmp_path / "photos" / "11.png")]
    options = {"encoder": "pixels", "image_size": 8, "n_views": 2, "n_workers": 0}
    cluster_images(paths, 3, out=tmp_path / "run", **options, **QUICK)
    (tmp_path / "run" / "thumbnails.parquet").unlink()
    monkeypatch.chdir("/")
    assert collect(tmp_path / "run").thumbnails().keys() == set(paths)


def test_random_state_is_called_seed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"random_state is called seed here.*give seed=3"):
        cluster_images(features(), 3, out=tmp_path / "run", random_state=3)
    assert not (tmp_path / "run").exists()


def test_numpy_scalars_are_parameters(tmp_path: Path) -> None:
    parameters = {"seed": np.int64(1), "dim": np.int64(16), "gate": np.float32(0.5)}
    run = cluster_images(features(), np.int64(3), out=tmp_path / "run", **{**QUICK, **parameters})
    found = run.record["parameters"]
    assert (found["seed"], found["dim"], found["gate"]) == (1, 16, 0.5)


def test_a_run_of_which_nothing_can_be_read_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "photos" / f"{name}.png", b"x")
    with pytest.raises(SourceError, match="none of 3 can"):
        cluster_images(tmp_path / "photos", 2, out=tmp_path / "run", encoder="pixels", n_workers=0)
    assert not (tmp_path / "run").exists()


def test_the_number_of_clusters_is_found_and_told(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = cluster_images(features(), "auto", out=out, **QUICK)
    assert run.insight is not None
    told = run.insight["k"]
    assert run.metrics["n_clusters"] == told["chosen"] == told["best"]
    assert told["asked"] == run.record["parameters"]["n_clusters"] == "auto"
    with pytest.warns(UserWarning, match="Nothing to do"):
        cluster_images(features(), "auto", out=out, **QUICK)
    with pytest.raises(RunError, match="already holds a run, made with n_clusters="):
        cluster_images(features(), (2, 9), out=out, **QUICK)
    run = cluster_images(features(), (4, 9), out=out, overwrite=True, **QUICK)
    assert run.record["parameters"]["n_clusters"] == [4, 9]
    assert run.metrics["n_clusters"] in range(4, 10)
    with pytest.warns(UserWarning, match="Nothing to do"):
        cluster_images(features(), [4, 9], out=out, **QUICK)


def test_a_run_can_be_cut_where_its_tree_has_other_numbers(tmp_path: Path) -> None:
    run = cluster_images(features(), 3, out=tmp_path / "run", **QUICK)
    assert (run.cut(3) == run.labels_).all()
    assert len(np.unique(run.cut(2))) == 2
    assert len(np.unique(run.cut(5))) == 5
    assert sorted(run.order) == [0, 1, 2]
    assert "leaf" not in (tmp_path / "run" / "labels.csv").read_text("utf-8-sig").split("\n")[0]


def test_a_bound_of_memory_is_kept_to_and_what_stages_took_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOKENS", "EMBEDDINGS", "ANSWERS"):  # as of a set a million times as large
        for module in ("fitting", "answers", "looking"):
            monkeypatch.setattr(f"mfavbs.model.{module}.{name}", 1e-9, raising=False)
    monkeypatch.setattr("mfavbs.model.answers.BANK_ROWS", 50)
    out = tmp_path / "run"
    run = cluster_images(features(), 3, out=out, memory="64M", **QUICK)
    free = cluster_images(features(), 3, out=tmp_path / "free", **QUICK)
    assert adjusted_rand_score(run.labels_, free.labels_) == 1
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in (tmp_path / "free").iterdir()}
    seconds, memory = run.metrics["seconds"], run.metrics["stage_memory_mib"]
    assert seconds.keys() == memory.keys()
    assert {"training", "training: neighbours", "insight: trust", "report"} <= seconds.keys()
    assert max(memory.values()) <= run.metrics["peak_memory_mib"]
    assert all(100 < peak < 100_000 for peak in memory.values())
    assert "memory" not in run.record["parameters"]


@pytest.mark.parametrize(
    ("memory", "said"), [("much", "should be a size"), ("1M", "does not hold a batch")]
)
def test_a_bound_that_will_not_do_is_refused_before_there_is_a_folder(
    memory: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(MfavbsError, match=said):
        cluster_images(features(), 3, out=tmp_path / "run", memory=memory, **QUICK)
    assert not (tmp_path / "run").exists()
