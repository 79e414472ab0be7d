"""Copies of a source's images, from the folder to the run's files."""

import numpy as np
import pytest
from image_files import write
from PIL import Image

from mfavbs import cluster_images

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
