"""Tests of mfavbs.sources: what each kind of source calls itself, and is recognised by."""

import numpy as np
from PIL import Image

from mfavbs.sources import open_source


def test_folder_of_images(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    source = open_source(tmp_path)
    assert (source.name, source.keys) == (tmp_path.name, ["a.png"])
    assert source.identity == f"folder {tmp_path}"
    assert source.store is None
    assert source.folders is None


def test_saved_features_are_recognised_by_path_size_and_time(tmp_path):
    path = tmp_path / "saved.npy"
    np.save(path, np.ones((11, 3)))
    source = open_source(path)
    assert source.name == "saved"
    assert source.keys[0] == "00"
    before = source.identity
    np.save(path, np.ones((12, 3)))
    assert open_source(path).identity != before
