"""An engine that cannot be had is refused at once, and nothing is started for it."""

import importlib.util
import json
import socket
import sys
import time

import numpy as np
import pytest

import mfavbs.clustering
import mfavbs.prediction
from mfavbs import cluster_images, predict_images
from mfavbs.engines import ENGINES, check_engine, engine_of
from mfavbs.errors import EngineError
from mfavbs.features import encoded_here


def test_this_machine_needs_nothing():
    check_engine("local")
    assert engine_of("local") is encoded_here
    assert ENGINES == ("local", "ray")


def test_no_process_is_refused():
    with pytest.raises(EngineError, match="needs n_workers=1 at least"):
        check_engine("ray", None, 0)


@pytest.mark.parametrize(
    ("engine", "address", "words"),
    [
        ("spark", None, "engine='spark' should be local or ray"),
        ("local", "head:6379", "ray_address=head:6379 is for engine=ray"),
        ("ray", "head", "expected ray_address=HOST:PORT"),
        ("ray", "head:http", "expected ray_address=HOST:PORT"),
        ("ray", "head:99999", "expected ray_address=HOST:PORT"),
        ("ray", "ray://head:10001", "expected ray_address=HOST:PORT"),
        ("ray", ":6379", "expected ray_address=HOST:PORT"),
        ("ray", "a" * 70 + ".invalid:6379", "nobody answers at ray_address=a"),
        ("ray", "nowhere.invalid:6379", "nobody answers at ray_address=nowhere"),
    ],
)
def test_what_is_wrong_is_named(engine, address, words, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(EngineError, match=words):
        check_engine(engine, address)


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(EngineError, match=rf"nobody answers at ray_address={address} \(Conn"):
            check_engine("ray", address)
        assert time.monotonic() - start < 5


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"not installed: pip install 'mfavbs\[ray\]'"):
        check_engine("ray")


def test_a_run_and_its_predictions_are_encoded_by_what_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def engine(*words):
        def encoded(work):
            asked.append(words)
            return encoded_here(work)

        return encoded

    for flow in (mfavbs.clustering, mfavbs.prediction):
        monkeypatch.setattr(flow, "check_engine", lambda *words: None)
        monkeypatch.setattr(flow, "engine_of", engine)
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    on_ray = {"engine": "ray", "ray_address": "head:6379", "verbose": False, "n_workers": 0}
    cluster_images(
        images, 2, out=tmp_path / "run", encoder="pixels", image_size=8, epochs=1, **on_ray
    )
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert not {"engine", "ray_address"} & record["parameters"].keys()
    predict_images(tmp_path / "run", images[:9], out=tmp_path / "new", **on_ray)
    assert asked == 2 * [("ray", "head:6379")]
