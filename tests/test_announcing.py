"""The line that a long run begins with, and only a long one."""

from pathlib import Path

import pytest
from feature_blobs import blobs
from image_files import COLOURS, paint

from mfavbs import announcing, cluster_images
from mfavbs.features import watching

QUICK = {"epochs": 1, "device": "cpu"}
LINE = "90 images, 3 clusters: about "


def test_a_short_run_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster_images(blobs()[0], 3, out=tmp_path / "run", **QUICK)
    assert LINE not in capsys.readouterr().err


def test_a_long_run_of_features_is_announced_unless_it_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(announcing, "_MANY", 90)
    monkeypatch.setattr(announcing, "_LONG", 0.1)
    cluster_images(blobs()[0], 3, out=tmp_path / "run", **QUICK)
    said = capsys.readouterr()
    assert said.err.count(LINE) == 1
    assert "training" in said.err
    assert said.out == ""
    cluster_images(blobs()[0], 3, out=tmp_path / "quiet", verbose=False, **QUICK)
    assert capsys.readouterr().err == ""
    first, second = (tmp_path / name / "labels.csv" for name in ("run", "quiet"))
    assert first.read_bytes() == second.read_bytes()


def test_a_long_encoding_is_announced_in_its_first_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "_SECONDS", 0.0)
    monkeypatch.setattr(announcing, "_LONG", 0.01)
    for i in range(60):
        paint(tmp_path / "photos" / f"{i}.png", list(COLOURS.values())[i % 3], i)
    options = {"encoder": "pixels", "image_size": 8, "n_views": 5, "n_workers": 0, **QUICK}
    cluster_images(tmp_path / "photos", 3, out=tmp_path / "run", **options)
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("60 images, 3 clusters: about ")]
    assert line.endswith("MB on disk")
