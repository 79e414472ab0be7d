"""The whole flow on photographs, where the data and weights are at hand beside the checkout."""

import tarfile
from pathlib import Path

import pytest

from mfavbs import cluster_images, predict_images
from mfavbs.runs import read_truth

SHARED = Path(__file__).parents[2] / "shared"
PHOTOGRAPHS = SHARED / "data" / "imagenette-val.tar"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.safetensors"


@pytest.mark.slow
@pytest.mark.skipif(
    not (PHOTOGRAPHS.exists() and WEIGHTS.exists()),
    reason="needs ../shared/data/imagenette-val.tar and ../shared/weights",
)
def test_photographs_are_clustered_better_than_by_k_means(tmp_path: Path) -> None:
    with tarfile.open(PHOTOGRAPHS) as tar:
        members = [member for member in tar if member.isfile()][::6]
        tar.extractall(tmp_path / "photos", members=members, filter="data")
    broken = tmp_path / "photos" / "tench" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 cut off")
    run = cluster_images(
        tmp_path / "photos",
        10,
        out=tmp_path / "run",
        encoder="timm:mobilenetv2_100",
        weights=WEIGHTS,
        image_size=96,
        n_views=3,
        labels_from_folders=True,
        verbose=False,
    )
    assert len(run.cluster) == len(members)
    assert run.failures[0][0] == "tench/broken.jpg"
    scores, kmeans = run.metrics["scores"], run.metrics["baselines"]["k-means"]
    assert scores["acc"] > kmeans["acc"]
    assert scores["nmi"] > kmeans["nmi"]
    again = predict_images(tmp_path / "run", tmp_path / "photos", verbose=False)
    labels = (again / "labels.csv").read_text(encoding="utf-8-sig").replace("cluster", "label", 1)
    (tmp_path / "again.csv").write_text(labels, encoding="utf-8")
    assert list(read_truth(tmp_path / "again.csv").values()) == [str(c) for c in run.cluster]
