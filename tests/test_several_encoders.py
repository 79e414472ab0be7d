"""Two encoders for one run: embedded, clustered, applied, brought up to date, and interrupted."""

import json
import signal

import numpy as np
import pytest
from command_line import mfavbs
from image_files import COLOURS, paint
from killing import count_touches, run_until

from mfavbs import FeatureStore, embed, load_encoder, open_images
from mfavbs.errors import StoreError

TWO = ("--encoder", "pixels", "--encoder", "pixels", "--image-size", 8, "--image-size", 6)
QUICK = (*TWO, "--views", 3, "--workers", 0)


@pytest.fixture
def photos(tmp_path):
    for c, (name, colour) in enumerate(COLOURS.items()):
        for i in range(8):
            paint(tmp_path / "photos" / name / f"{i}.png", colour, 100 * c + i)
    return tmp_path / "photos"


def content(folder):
    """Every file, byte for byte."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def store_of(folder, photos, names, sizes, **options):
    options = {"n_views": 3, "n_workers": 0, "verbose": False, "device": "cpu"} | options
    encoder = load_encoder(names, image_size=sizes)
    return embed(open_images(photos), folder, encoder, **options)


def test_the_largest_block_is_what_its_encoder_gives_alone(photos, tmp_path):
    """Bit for bit but for its length: both see the same views."""
    joint = store_of(tmp_path / "joint", photos, ["pixels", "pixels"], [6, 8])
    alone = store_of(tmp_path / "alone", photos, "pixels", 8)
    assert joint.blocks == (108, 192)
    assert alone.blocks == (192,)
    assert joint.features.shape == (24, 3, 1, 300)
    own = np.asarray(alone.features, np.float32)
    own /= np.linalg.norm(own, axis=3, keepdims=True) * np.sqrt(2)
    np.testing.assert_allclose(joint.features[..., 108:], own, atol=1e-3)
    with pytest.raises(StoreError, match=r"encoder='pixels \+ pixels', now encoder='pixels'"):
        store_of(tmp_path / "joint", photos, "pixels", 8)
    with pytest.raises(StoreError, match="now encoders="):
        store_of(tmp_path / "joint", photos, ["pixels", "pixels"], [8, 8])


def test_features_come_from_the_cache_of_both_alone(photos, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    first = store_of(tmp_path / "a", photos, ["pixels", "pixels"], [6, 8], cache=cache)
    with monkeypatch.context() as patch:
        forward = "mfavbs.encoders.combined.CombinedEncoder.__call__"
        patch.setattr(forward, lambda *_: pytest.fail("encoded"))
        load = load_encoder(["pixels", "pixels"], image_size=[6, 8])
        again = embed(
            *(open_images(photos), tmp_path / "b", load),
            **{"n_views": 3, "n_workers": 0, "verbose": False, "cache": cache, "device": "cpu"},
        )
    assert np.array_equal(first.features, again.features)
    store_of(tmp_path / "c", photos, ["pixels", "pixels"], [7, 8], cache=cache)
    assert len(list(cache.glob("*features"))) == 2


def test_from_the_command_line(photos, tmp_path):
    command = ("cluster", "photos", "-k", 3, *QUICK, "--epochs", 2, "--out", "run")
    made = mfavbs(*command, folder=tmp_path)
    assert made.code == 0, made.err
    record = json.loads((tmp_path / "run/run.json").read_text(encoding="utf-8"))
    assert record["parameters"]["encoder"] == ["pixels", "pixels"]
    assert record["encoder"]["blocks"] == [192, 108]
    assert "pixels + pixels" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Nothing to do" in mfavbs(*command, folder=tmp_path).err
    other = mfavbs(*command[:4], "--encoder", "pixels", "--out", "run", folder=tmp_path)
    assert (other.code, "--encoder" in other.err) == (1, True)
    paint(photos / "red/new.png", COLOURS["red"], 77)
    updated = mfavbs(*command, "--update", folder=tmp_path)
    assert updated.code == 0, updated.err
    assert "1 new, 0 gone, 24 kept" in updated.err
    predicted = mfavbs("predict", "run", "photos", "--workers", 0, "--json", folder=tmp_path)
    assert predicted.code == 0, predicted.err
    assert json.loads(predicted.out)["n_images"] == 25
    ours = FeatureStore.open(tmp_path / "run/features")
    theirs = FeatureStore.open(tmp_path / "run/predictions/photos/features")
    assert theirs.recipe == ours.recipe
    assert np.array_equal(ours.features[:], np.asarray(theirs.features))
    assert mfavbs("report", "run", folder=tmp_path).code == 0


def test_embed_and_bench_take_two(photos, tmp_path):
    embedded = mfavbs("embed", "photos", "--out", "store", *QUICK, folder=tmp_path)
    assert embedded.code == 0, embedded.err
    assert "of width 300 (192 + 108): store" in embedded.err
    again = mfavbs("embed", "photos", "--out", "store", *QUICK, folder=tmp_path)
    assert (again.code, "Nothing to do" in again.err) == (0, True)
    bench = mfavbs(
        *("bench", "photos", "--methods", "kmeans", "--seeds", 1, *QUICK, "--json"), folder=tmp_path
    )
    assert bench.code == 0, bench.err
    assert json.loads(bench.out)["shape"] == [24, 3, 1, 300]


def test_killed_anywhere_the_same_call_goes_on_to_the_same_bytes(photos, tmp_path, kill_points):
    command = ("embed", "photos", *QUICK, "--out")
    whole = tmp_path / "whole"
    touches = count_touches(*command, whole, folder=tmp_path, watched=whole)
    expected = content(whole)
    for touch in kill_points(touches):
        out = tmp_path / f"killed-{touch}"
        assert run_until(touch, *command, out, folder=tmp_path, watched=out).code == -signal.SIGKILL
        again = mfavbs(*command, out, folder=tmp_path)
        assert again.code == 0, again.err
        assert content(out) == expected
