"""A run that answers over HTTP: as `mfavbs predict` does, bounded, and to those who may ask."""

import os
import queue
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import ended, mfavbs, start
from image_files import COLOURS, encoded, paint, red

from mfavbs.answering import Answering
from mfavbs.clustering import cluster_images
from mfavbs.errors import MfavbsError, RunError
from mfavbs.prediction import predict_images
from mfavbs.runs import read_all_probabilities
from mfavbs.serving import Batches, application, check_host

testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for n in range(36):
        paint(folder / f"{n:02d}.png", list(COLOURS.values())[n % 3], n)
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("served") / "run"
    how = {"encoder": "pixels", "image_size": 8, "n_views": 3, "n_workers": 0, "epochs": 2}
    cluster_images(photos, 3, out=out, verbose=False, device="cpu", **how)
    return out


@pytest.fixture(scope="module")
def answering(run):
    return Answering(run, device="cpu")


@pytest.fixture(scope="module")
def client(answering):
    return testclient.TestClient(application(answering, max_images=40, max_mb=1))


def files(photos, rows):
    return [("images", (f"{n:02d}.png", (photos / f"{n:02d}.png").read_bytes())) for n in rows]


def test_the_answers_are_those_of_predict(client, run, photos, tmp_path):
    predict_images(run, photos, out=tmp_path / "p", verbose=False, device="cpu", n_workers=0)
    expected = read_all_probabilities(tmp_path / "p")
    answer = client.post("/predict", files=files(photos, range(36)))
    assert answer.status_code == 200
    images = answer.json()["images"]
    assert [image["path"] for image in images] == [f"{n:02d}.png" for n in range(36)]
    found = np.array([image["probabilities"] for image in images])
    assert found == pytest.approx(expected, abs=1e-6)
    assert [image["cluster"] for image in images] == expected.argmax(1).tolist()
    table = pq.read_table(tmp_path / "p" / "labels.parquet")
    for name in ("confidence", "outlier"):
        got = [image[name] for image in images]
        assert got == pytest.approx(table[name].to_pylist(), abs=1e-4)


def test_a_broken_image_is_told_and_the_others_are_answered(client, photos):
    sent = [*files(photos, [0]), ("images", ("no.png", b"no picture")), ("images", ("e.png", b""))]
    images = client.post("/predict", files=[*sent, *files(photos, [3])]).json()["images"]
    assert [sorted(image) == ["error", "path"] for image in images] == [False, True, True, False]
    assert images[0]["cluster"] == images[3]["cluster"]  # both of one colour
    assert images[2]["error"] == "empty file (0 bytes)"
    only = client.post("/predict", files=[("images", ("no.png", b"no picture"))])
    assert only.status_code == 200
    assert "error" in only.json()["images"][0]


def test_features_are_answered(client, answering):
    assert client.get("/health").json() == {"status": "ok", "n_clusters": 3, "waiting": 0}
    width = answering._model.n_features_in_
    answer = client.post("/predict", json={"features": np.eye(2, width).tolist()})
    assert answer.status_code == 200
    assert [sum(row["probabilities"]) for row in answer.json()["images"]] == pytest.approx([1, 1])
    wrong = client.post("/predict", json={"features": [[1.0, 2.0]]})
    assert (wrong.status_code, str(width) in wrong.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        ({"content": b"{"}, 422, "expected files"),
        ({"content": b"[" * 100_000}, 422, "expected files"),
        ({"json": {"features": [[1, 2], [3]]}}, 422, "rows of one length"),
        ({"json": {"features": []}}, 422, "1 to 40 rows"),
        ({"json": {"features": [[None] * 192]}}, 422, "NaN"),
        ({"json": {"features": [[0.0]] * 41}}, 422, "1 to 40 rows"),
        ({"content": b"x" * 1_100_000}, 413, "at most 1 MB"),
        ({"files": [("pictures", ("a.png", b"x"))]}, 422, "the field 'images'"),
        ({"files": [("images", ("a.png", b"x"))] * 41}, 422, "at most 40 images"),
        (
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            422,
            "Missing boundary",
        ),
    ],
)
def test_a_bad_request_is_told_why(client, sent, status, told):
    answer = client.post("/predict", **sent)
    assert answer.status_code == status
    assert told in answer.json()["detail"]
    assert client.get("/health").status_code == 200


def test_who_has_no_token_is_not_answered(answering, photos):
    client = testclient.TestClient(application(answering, token="secret"))
    sent = files(photos, [0])
    for brought in ({}, {"authorization": "secret"}, {"authorization": "Bearer Secret"}):
        assert client.post("/predict", files=sent, headers=brought).status_code == 401
    right = {"authorization": "Bearer secret"}
    assert client.post("/predict", files=sent, headers=right).status_code == 200
    with pytest.raises(MfavbsError, match="give a token"):
        check_host("0.0.0.0", None)
    check_host("0.0.0.0", "secret")


def test_requests_are_answered_together_and_too_many_are_refused():
    go, sizes = threading.Event(), []

    def answer(contents):
        go.wait(10)
        sizes.append(len(contents))
        if any(name == "bad" for name, _ in contents):
            raise ValueError("bad")
        return [{"path": name} for name, _ in contents]

    batches = Batches(answer, most_waiting=4)
    first = batches.ask([("0", b"")])
    while len(batches):
        time.sleep(0.01)  # until it is being answered
    waiting = [batches.ask([(f"{n}a", b""), (f"{n}b", b"")]) for n in range(4)]
    with pytest.raises(queue.Full):
        batches.ask([("late", b"")])
    waiting[1].cancel()
    go.set()
    assert first.result(10) == [{"path": "0"}]
    for n in (0, 2, 3):
        assert waiting[n].result(10) == [{"path": f"{n}a"}, {"path": f"{n}b"}]
    assert sizes == [1, 6]
    with pytest.raises(ValueError, match="bad"):
        batches.ask([("bad", b"")]).result(10)
    assert batches.ask([("good", b"")]).result(10) == [{"path": "good"}]


def test_what_takes_too_long_is_given_up(answering, photos, monkeypatch):
    monkeypatch.setattr(answering, "images", lambda contents: time.sleep(5))
    client = testclient.TestClient(application(answering, seconds=0.2))
    answer = client.post("/predict", files=files(photos, [0]))
    assert answer.status_code == 503
    assert "0.2 seconds" in answer.json()["detail"]


def test_a_run_of_features_takes_no_images(tmp_path):
    features = np.random.default_rng(0).normal(size=(40, 4))
    cluster_images(features, 2, out=tmp_path / "run", epochs=1, verbose=False, device="cpu")
    client = testclient.TestClient(application(Answering(tmp_path / "run", device="cpu")))
    answer = client.post("/predict", files=[("images", ("a.png", encoded(red())))])
    assert (answer.status_code, "made from features" in answer.json()["detail"]) == (422, True)
    assert client.post("/predict", json={"features": features.tolist()}).status_code == 200
    how = {"epochs": 1, "verbose": False, "device": "cpu", "with_map": False}
    cluster_images(features, (2, 3), out=tmp_path / "found", **how)
    assert Answering(tmp_path / "found", device="cpu").n_clusters in (2, 3)
    with pytest.raises(RunError):
        Answering(tmp_path)


def test_as_a_process(run, photos, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = mfavbs("serve", run, "--port", port, folder=tmp_path)
        assert (refused.code, "give another port" in refused.err) == (1, True)
    open_to_all = mfavbs("serve", run, "--host", "0.0.0.0", folder=tmp_path)
    assert (open_to_all.code, "MFAVBS_TOKEN" in open_to_all.err) == (1, True)
    process = start("serve", run, "--port", port, "--device", "cpu", folder=tmp_path)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health").close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        import httpx2

        def ask(n):
            found = httpx2.post(f"{url}/predict", files=files(photos, [n]), timeout=60).json()
            return found["images"][0]["cluster"]

        with ThreadPoolExecutor(8) as pool:
            clusters = list(pool.map(ask, range(24)))
        assert clusters == clusters[:3] * 8  # by colour
        assert len(set(clusters)) == 3
    finally:
        os.kill(process.pid, signal.SIGINT)
    assert ended(process, tmp_path).code in (0, 130)
