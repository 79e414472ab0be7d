"""Known labels: what counts as one, how they are matched, what is said of the rest."""

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_runs import make_run

from mfavbs.errors import RunError
from mfavbs.metrics import score, score_known
from mfavbs.runs import evaluate_run, read_truth


def write_truth(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    return path


def test_an_empty_label_is_none_and_a_repeated_row_is_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.csv", "a.png,cat", "b.png,", "c.png,  ", "d.png")
    assert read_truth(truth) == {"a.png": "cat"}
    for lines in (("a.png,cat", "b.png,dog", "a.png,dog"), ("a.png,cat", "a.png,cat")):
        truth = write_truth(tmp_path / "t.csv", *lines)
        with pytest.raises(RunError, match=r"'a.png' in line 2 and again in line"):
            read_truth(truth)


def test_guarded_cells_are_read_as_the_paths_they_are(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "t.csv", "./=1.png,cat", "b.png,./=dog")
    assert read_truth(truth) == {"=1.png": "cat", "b.png": "=dog"}


def test_truth_that_is_no_table_is_told_in_words(tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    with pytest.raises(RunError, match=r"truth.csv cannot be read: No such file or directory\.$"):
        read_truth(truth)
    truth.write_bytes("path,label\na.png,Bär\n".encode("latin-1"))
    with pytest.raises(RunError, match=r"truth.csv is no text in UTF-8; save it as CSV UTF-8"):
        read_truth(truth)


def test_part_of_the_images_labelled_is_scored_with_its_coverage(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", list("abcdefgh"), [0, 0, 0, 1, 1, 1, 2, 2])
    truth = {"a": "x", "b": "x", "d": "y", "e": "x", "f": "", "of another run": "z"}
    assert evaluate_run(run, truth) == {
        **score(["x", "x", "y", "x"], [0, 0, 1, 1]),
        "coverage": 0.5,
    }
    for nothing in ({}, {"elsewhere/a": "x"}, {"a": ""}):
        with pytest.raises(RunError, match=r"None of the 8 images of .*'a' the first"):
            evaluate_run(run, nothing)


def test_names_composed_and_decomposed_match(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    for name, other in ((composed, decomposed), (decomposed, composed)):
        run = make_run(tmp_path / "run", [name, "b"], [0, 1])
        assert evaluate_run(run, {other: "x", "b": "y"})["coverage"] == 1


def test_predictions_can_be_scored(tmp_path: Path) -> None:
    columns = {"path": list("abc"), "cluster": [1, 1, 0], "confidence": [0.9, 0.8, 0.7]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    with pytest.raises(RunError, match="no run"):
        evaluate_run(tmp_path, {"a": "x"})
    (tmp_path / "prediction.json").write_text("{}")
    assert evaluate_run(tmp_path, {"a": "x", "b": "x", "c": "y"})["acc"] == 1


def test_scores_of_all_known_are_scores() -> None:
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    names = [f"label {label}" for label in labels]
    assert score_known(names, clusters) == {**score(labels, clusters), "coverage": 1.0}
    some = [name if i % 2 else None for i, name in enumerate(names)]
    half = score(labels[1::2], clusters[1::2])
    assert score_known(some, clusters) == {**half, "coverage": 0.5}


def test_evaluating_imports_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", list("abcd"), [0, 0, 1, 1])
    truth = write_truth(tmp_path / "t.csv", *(f"{name},{name}" for name in "abcd"))
    code = "import sys; from mfavbs.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    arguments = ["evaluate", run, "--truth", truth]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert "ACC" in done.stderr
    assert not {"torch", "timm", "open_clip"} & set(done.stdout.split())
