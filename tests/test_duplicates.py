"""Copies of a source's images, from the folder to the run's files."""

import numpy as np
import pytest
from image_files import write
from PIL import Image

from mfavbs import cluster_images
from mfavbs.errors import RunError, SourceError

OPTIONS = {"encoder": "pixels", "image_size": 8, "epochs": 2, "verbose": False, "n_workers": 0}


def photo(seed, edge=96):
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, (size, size, 3), np.uint8) for size in (3, 9, 24)]
    large = [np.asarray(Image.fromarray(part).resize((edge, edge)), float) for part in parts]
    return Image.fromarray(np.mean(large, axis=0).astype(np.uint8))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(30):
        photo(seed).save(folder / f"{seed:02d}.png")
    write(folder / "again.png", (folder / "03.png").read_bytes())
    photo(5).save(folder / "other.jpg", quality=60)
    photo(5).resize((48, 48)).save(folder / "small.png")
    Image.new("RGB", (96, 96)).save(folder / "black.png")
    return folder


def groups(run):
    rows = {}
    for path, group in zip(run.paths, run.copies.tolist()):
        rows.setdefault(group, set()).add(path)
    return {frozenset(paths) for group, paths in rows.items() if group >= 0}


SAME = {frozenset({"03.png", "again.png"}), frozenset({"05.png", "other.jpg", "small.png"})}


def test_a_run_tells_of_copies_and_of_poor_pictures(photos, tmp_path):
    run = cluster_images(photos, 3, out=tmp_path / "run", **OPTIONS)
    assert groups(run) == SAME
    assert run.insight["copies"] == {"n_groups": 2, "n_images": 5, "by": "content and picture"}
    assert run.flags[run.paths.index("black.png")] == ["nearly black"]
    assert run.insight["flags"]["nearly black"] == 1
    assert (run.outlier > 0).all()
    assert (run.outlier <= 1).all()


def test_features_alone_tell_of_equal_rows(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
    x[7] = x[30]
    run = cluster_images(x, 2, out=tmp_path / "run", epochs=2, verbose=False)
    assert np.flatnonzero(run.copies == 0).tolist() == [7, 30]
    assert run.insight["copies"]["by"] == "content"
    assert run.flags == [None] * 40
    assert run.insight["flags"]["not looked at"] == 40


def test_copies_are_left_out_of_training_and_answered_like_the_one_kept(photos, tmp_path):
    run = cluster_images(photos, 3, out=tmp_path / "run", drop_copies=True, **OPTIONS)
    assert len(run.paths) == 34
    assert groups(run) == SAME
    assert run.record["parameters"]["drop_copies"] is True
    assert run.record["copies_dropped"] == 3
    cluster = dict(zip(run.paths, run.cluster.tolist()))
    for paths in SAME:
        assert len({cluster[path] for path in paths}) == 1
    kept = [path for path in run.paths if path not in ("again.png", "other.jpg", "small.png")]
    for path in ("again.png", "other.jpg", "small.png"):
        (photos / path).unlink()
    alone = cluster_images(photos, 3, out=tmp_path / "alone", **OPTIONS)
    assert alone.paths == kept
    assert alone.cluster.tolist() == [cluster[path] for path in kept]


def test_dropping_copies_is_a_parameter_of_the_run(photos, tmp_path):
    cluster_images(photos, 3, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(RunError, match=r"drop_copies=False.*drop_copies=True"):
        cluster_images(photos, 3, out=tmp_path / "run", drop_copies=True, **OPTIONS)


def test_a_refit_drops_copies_as_the_run_did(photos, tmp_path):
    options = OPTIONS | {"drop_copies": True}
    cluster_images(photos, 3, out=tmp_path / "run", **options)
    (photos / "copy-of-07.png").write_bytes((photos / "07.png").read_bytes())
    run = cluster_images(photos, 3, out=tmp_path / "run", refit=True, **options)
    cluster = dict(zip(run.paths, run.cluster.tolist()))
    assert cluster["copy-of-07.png"] == cluster["07.png"]
    assert len(run.paths) == 35


def test_without_copies_there_must_be_as_many_images_as_clusters(photos, tmp_path):
    for path in photos.iterdir():
        if path.name not in ("03.png", "again.png", "05.png"):
            path.unlink()
    with pytest.raises(SourceError, match=r"n_samples=2 .* n_clusters=3"):
        cluster_images(photos, 3, out=tmp_path / "run", drop_copies=True, **OPTIONS)


def test_features_are_trained_on_once_each(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3, 16)).astype(np.float32)
    x[7] = x[30]
    run = cluster_images(x, 2, out=tmp_path / "run", drop_copies=True, epochs=2, verbose=False)
    assert run.record["copies_dropped"] == 1
    assert run.cluster[7] == run.cluster[30]
