"""New images set against those of a run, from the source to the tables."""

import csv
import json

import numpy as np
import pytest
from command_line import mfavbs
from feature_blobs import blobs

from mfavbs import cluster_images, predict_images
from mfavbs.errors import SourceError
from mfavbs.runs import read_columns, read_run

K = 3


@pytest.fixture(scope="module")
def features():
    """Of four groups, the last of which the run does not see."""
    return blobs(n=800, n_features=16, k=K + 1, noise=0.15)


@pytest.fixture(scope="module")
def run(tmp_path_factory, features):
    folder = tmp_path_factory.mktemp("judging")
    x, y = features
    np.save(folder / "run.npy", x[:480][y[:480] < K])
    np.save(folder / "alike.npy", x[480:][y[480:] < K])
    np.save(folder / "other.npy", x[480:])
    options = {"epochs": 2, "device": "cpu", "verbose": False}
    return cluster_images(folder / "run.npy", K, out=folder / "run", **options).folder


def predicted(run, name, **options):
    out = run.parent / f"of-{name}-{len(options)}"
    predict_images(run, run.parent / f"{name}.npy", out=out, device="cpu", verbose=False, **options)
    with (out / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return out, rows, json.loads((out / "insight.json").read_text())


@pytest.mark.filterwarnings("error")
def test_images_like_the_runs_get_clusters_and_no_warning(run):
    out, rows, insight = predicted(run, "alike")
    assert {row["cluster"] for row in rows} == {"0", "1", "2"}
    assert insight["drift"]["p"] > 0.01
    p = read_columns(out)["outlier"].to_numpy()
    assert 0.01 < (p <= 0.05).mean() < 0.12
    assert np.allclose([float(row["outlier"]) for row in rows], p, atol=1e-4)


def test_a_group_that_the_run_has_not_seen_is_in_no_cluster(run, features):
    strange = features[1][480:] == K
    with pytest.warns(UserWarning, match=r"differ from the run's .*as strange as"):
        _, rows, insight = predicted(run, "other", none_rate=0.05)
    none = np.array([row["cluster"] == "-1" for row in rows])
    assert none[strange].mean() > 0.95
    assert none[~strange].mean() < 0.12
    assert insight["none"] == {"rate": 0.05, "n": int(none.sum())}


def test_the_runs_own_images_are_as_sure_as_in_the_run(run):
    out = run.parent / "again"
    predict_images(run, run.parent / "run.npy", out=out, device="cpu", verbose=False)
    own = read_run(run)
    assert read_columns(out)["trust"].to_numpy() == pytest.approx(own.trust, abs=1e-3)


def test_a_run_that_keeps_nothing_says_so(run, tmp_path):
    kept = run / "reference.safetensors"
    kept.rename(tmp_path / "kept")
    try:
        with pytest.warns(UserWarning, match="mfavbs report RUN"):
            out = predict_images(
                run, run.parent / "alike.npy", out=tmp_path / "out", none_rate=0.1, verbose=False
            )
        assert "outlier" not in read_columns(out)
        assert mfavbs("report", run, folder=tmp_path).code == 0
        assert kept.read_bytes() == (tmp_path / "kept").read_bytes()
    finally:
        (tmp_path / "kept").replace(kept)


def test_from_the_command_line(run, tmp_path):
    result = mfavbs(
        *("predict", run, run.parent / "other.npy", "--out", "out"),
        *("--none-rate", 0.05, "--device", "cpu", "--json"),
        folder=tmp_path,
    )
    assert result.code == 0, result.err
    told = json.loads(result.out)["insight"]
    assert told["none"]["n"] > 50
    assert told["drift"]["p"] <= 0.01
    assert "in none of them" in result.err
    assert "differ from the run's" in result.err


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5])
def test_a_rate_is_between_0_and_1(run, rate, tmp_path):
    with pytest.raises(SourceError, match="between 0 and 1"):
        predict_images(run, run.parent / "alike.npy", out=tmp_path / "out", none_rate=rate)
