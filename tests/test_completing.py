"""Runs that lack what later versions ask of a run."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import mfavbs
from feature_blobs import blobs

from mfavbs import cluster_images
from mfavbs.completing import complete_run
from mfavbs.runs import read_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completing")
    np.save(folder / "features.npy", blobs(n=90, n_features=16)[0])
    return cluster_images(
        folder / "features.npy", 3, out=folder / "run", epochs=2, device="cpu", verbose=False
    ).folder


@pytest.fixture
def older(whole, tmp_path):
    """The run as an earlier version has left it."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for name in ("insight.json", "hierarchy.json", "map.parquet"):
        (folder / name).unlink(missing_ok=True)
    table = pq.read_table(folder / "labels.parquet")
    more = {"trust", "outlier", "copies", "flags"} & set(table.column_names)
    pq.write_table(table.drop_columns(list(more)), folder / "labels.parquet")
    return folder


def test_what_a_run_lacks_is_made_as_it_would_have_been(whole, older):
    before = read_run(older)
    assert before.trust is None
    assert before.insight is None
    assert complete_run(older) is None
    made, as_new = read_run(older), read_run(whole)
    assert made.insight == as_new.insight
    assert np.array_equal(made.trust, as_new.trust)
    assert np.array_equal(made.cluster, before.cluster)
    assert made.paths == before.paths
    assert (older / "labels.csv").read_bytes() == (whole / "labels.csv").read_bytes()


def test_only_what_was_not_asked_is_asked(older, monkeypatch):
    complete_run(older)
    insight = json.loads((older / "insight.json").read_text())
    insight["asked"].remove("trust")
    insight["trust"] = None
    (older / "insight.json").write_text(json.dumps(insight))
    asked = []
    monkeypatch.setattr("mfavbs.completing.understand", lambda *_, only, before, **__: (
        asked.extend(only), before)[1])  # fmt: skip
    complete_run(older)
    assert asked == ["trust"]


def test_without_the_features_it_is_said_what_is_missing(older):
    record = json.loads((older / "run.json").read_text())
    record["source"] |= {"location": "/nowhere/x.npy"}
    (older / "run.json").write_text(json.dumps(record))
    said = complete_run(older)
    assert said is not None
    assert "trust" in said
    assert "not there any more" in said
    result = mfavbs("report", older, folder=older.parent)
    assert result.code == 0
    assert "not there any more" in result.err
    assert read_run(older).trust is None


def test_features_of_other_images_are_not_taken(older, tmp_path):
    np.save(tmp_path / "fewer.npy", blobs(n=80, n_features=16)[0])
    record = json.loads((older / "run.json").read_text())
    record["source"] |= {"location": str(tmp_path / "fewer.npy")}
    (older / "run.json").write_text(json.dumps(record))
    said = complete_run(older)
    assert said is not None
    assert "of other images" in said
