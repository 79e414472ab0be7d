"""A finished run as a Python object."""

import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run

from mfavbs.runs import read_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    labels = ["cat", "", None, "dog", "  "]
    return make_run(
        tmp_path / "run", list("abcde"), [0, 0, 1, 1, 1], labels=labels, scores={"acc": 0.75}
    )


def test_repr_is_three_lines(run: Path, tmp_path: Path) -> None:
    lines = repr(read_run(run)).splitlines()
    assert len(lines) == 3
    assert lines[0] == f"Run {run}: 5 images in 2 clusters of the 3 asked for"
    assert lines[1] == "ACC 0.750"
    unlabelled = make_run(tmp_path / "other", ["a", "b"], [0, 1], k=2)
    assert "mean confidence 0.745" in repr(read_run(unlabelled)).splitlines()[1]
    assert len(repr(read_run(make_run(tmp_path / "none", [], []))).splitlines()) == 3


def test_paths_are_strings_and_labels_have_scikit_learns_name(run: Path) -> None:
    read = read_run(run)
    assert read.paths == list("abcde")
    assert read.labels_.tolist() == [0, 0, 1, 1, 1]
    assert [read.label_of(row) for row in range(5)] == ["cat", None, None, "dog", None]


def test_a_data_frame_of_it(run: Path) -> None:
    pytest.importorskip("pandas")
    frame = read_run(run).to_pandas()
    assert list(frame.columns) == ["path", "cluster", "confidence", "label"]
    assert frame["path"].tolist() == list("abcde")
    assert np.allclose(frame["confidence"], np.linspace(0.99, 0.5, 5))
    assert frame["label"].isna().tolist() == [False, True, True, False, True]


def test_without_pandas_it_is_said_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        read_run(run).to_pandas()
