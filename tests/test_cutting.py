"""A run cut at another number of clusters: its labels, its model, and where it cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from feature_blobs import blobs
from sklearn.metrics import adjusted_rand_score

from mfavbs import cluster_images, predict_images
from mfavbs.errors import RunError, SourceError
from mfavbs.runs import Run

QUICK = {"epochs": 2, "verbose": False, "device": "cpu"}
CUT = {"verbose": False, "device": "cpu"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 3 groups in 3 clusters, from features in a file."""
    folder = tmp_path_factory.mktemp("cutting")
    x, y = blobs()
    np.save(folder / "features.npy", x[:, 0, 0])
    given = {"labels": [f"group {label}" for label in y], **QUICK}
    return cluster_images(folder / "features.npy", 3, out=folder / "run", **given)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_the_clusters_are_those_of_the_tree_and_predict_gives_them_again(
    run: Run, k: int, tmp_path: Path
) -> None:
    cut = cluster_images(run.folder, k, out=tmp_path / "cut", **CUT)
    assert cut.metrics["n_clusters"] == k
    assert adjusted_rand_score(cut.labels_, run.cut(k)) > 0.9
    assert cut.record["moved"] == (cut.labels_ != run.cut(k)).sum()
    assert cut.record["parameters"]["cut_from"] == str(run.folder.resolve())
    assert cut.metrics["scores"].keys() == run.metrics["scores"].keys()
    assert cut.hierarchy is not None
    assert (cut.folder / "report.html").exists()
    source = run.folder.parent / "features.npy"
    predict_images(cut.folder, source, out=tmp_path / "new", device="cpu", verbose=False)
    answers = (tmp_path / "new" / "labels.csv").read_text("utf-8-sig").splitlines()[1:]
    assert [int(line.split(",")[1]) for line in answers] == cut.labels_.tolist()
    again = cluster_images(cut.folder, 2, out=tmp_path / "again", **CUT)
    assert again.metrics["n_clusters"] == 2


def test_the_same_cut_is_there_already_and_another_is_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    cluster_images(run.folder, 2, out=out, **CUT)
    with pytest.warns(UserWarning, match="Nothing to do"):
        cluster_images(run.folder, 2, out=out, **CUT)
    with pytest.raises(RunError, match="already holds a run, made with n_clusters=2"):
        cluster_images(run.folder, 4, out=out, **CUT)
    assert cluster_images(run.folder, 4, out=out, overwrite=True, **CUT).metrics["n_clusters"] == 4


def test_the_number_may_be_the_one_that_the_run_has_most_evidence_for(
    run: Run, tmp_path: Path
) -> None:
    assert run.insight is not None
    auto = cluster_images(run.folder, "auto", out=tmp_path / "auto", **CUT)
    assert auto.metrics["n_clusters"] == run.insight["k"]["best"]
    ranged = cluster_images(run.folder, (5, 7), out=tmp_path / "range", **CUT)
    assert ranged.metrics["n_clusters"] in (5, 6, 7)


def test_what_cannot_be_cut_is_refused_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"can be cut into 2 to \d+ clusters; got n_clusters=80"):
        cluster_images(run.folder, 80, out=tmp_path / "cut", **CUT)
    with pytest.raises(SourceError, match="keeps its known labels"):
        cluster_images(run.folder, 2, out=tmp_path / "cut", labels_from_folders=True, **CUT)
    array = cluster_images(blobs()[0][:, 0, 0], 3, out=tmp_path / "array", **QUICK)
    with pytest.raises(RunError, match=r"not there any more.*Run.cut\(2\)"):
        cluster_images(array.folder, 2, out=tmp_path / "cut", **CUT)
    (array.folder / "hierarchy.json").unlink()
    with pytest.raises(RunError, match="has no tree; `mfavbs report"):
        cluster_images(array.folder, 2, out=tmp_path / "cut", **CUT)
    assert not (tmp_path / "cut").exists()
    assert json.loads((run.folder / "run.json").read_text())["parameters"]["n_clusters"] == 3
