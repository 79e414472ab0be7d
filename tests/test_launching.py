"""In: a launcher of several processes. Out: one run folder, as one process makes it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from feature_blobs import blobs
from image_files import encoded, noise, write
from killing import wait_until
from sklearn.metrics import adjusted_rand_score

from mfavbs import launching
from mfavbs.launching import Peers, leave_to_first_process, peers, together

MFAVBS = "from mfavbs.cli import main; main()"
PYTHON = (
    "import sys, mfavbs; source, out = sys.argv[2], sys.argv[-1]; "
    "mfavbs.cluster_images(source, 3, out=out, device='cpu', epochs=1)"
)
LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
ALONE = {name: value for name, value in os.environ.items() if name not in LAUNCHED}


@pytest.mark.parametrize("code", [MFAVBS, PYTHON], ids=["command line", "cluster_images"])
def test_of_two_processes_that_cannot_meet_the_first_works_and_the_other_says_so(code, tmp_path):
    np.save(tmp_path / "x.npy", blobs(60)[0])
    options = ["-k", "3", "--device", "cpu", "--epochs", "1", "--out", str(tmp_path / "run")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, "cluster", str(tmp_path / "x.npy"), *options],
            env={**ALONE, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "Process 1 of 2" in said[1]
    assert "Process" not in said[0]
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("rank", "size"), [("0", "2"), ("1", "1"), ("1", ""), ("", "2"), ("x", "2")]
)
def test_a_process_alone_or_the_first_works(rank, size, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    leave_to_first_process()


class Told(dict):
    """A store of one process, as torch.distributed has them."""

    def set(self, key, value):
        self[key] = value.encode()

    def get(self, key):
        return self[key]

    def check(self, keys):
        return self.keys() >= set(keys)

    def wait(self, keys, patience):
        if not self.check(keys):
            raise RuntimeError("timeout")


CALLS = []


def called(others, name, **told):
    CALLS.append((others.rank, name, told))


def test_the_others_call_what_the_first_has_them_call_and_end_with_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "called_here", sys.modules[called.__module__])
    monkeypatch.setattr(called, "__module__", "called_here")
    CALLS.clear()
    store = Told()
    first, other = Peers(0, 2, store), Peers(1, 2, store)
    names = [first.call(called, at=1), first.call(called, at=[2])]
    first.end()
    first.end()
    other.follow()
    assert [(1, names[0], {"at": 1}), (1, names[1], {"at": [2]})] == CALLS
    assert names[0] != names[1]


def test_the_others_end_when_the_first_is_gone():
    class Gone(Told):
        def check(self, keys):
            raise RuntimeError("the server is gone")

    Peers(1, 2, Gone()).follow()


def test_within_a_command_there_are_others_and_after_it_none(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launching, "_meet", lambda rank, size: Peers(rank, size, Told()))
    token = launching._PEERS.set(None)
    try:
        assert peers() is None
        with together():
            found = peers()
            with together():
                assert peers() is found
            assert found is not None
            found.busy = True  # at a call, within which something else is tried
            assert peers() is None
            found.busy = False
        assert peers() is None
        with together():  # they have ended
            assert peers() is None
    finally:
        launching._PEERS.reset(token)


def torchrun(*arguments, n=2, wait=True):
    """Start a command in several processes; what it said, when it has ended."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n)]
    command += ["--standalone", "-m", "mfavbs", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=ALONE, **streams)
    if not wait:
        return process
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def mfavbs(*arguments):
    command = [sys.executable, "-m", "mfavbs", *map(str, arguments)]
    subprocess.run(command, env=ALONE, check=True, capture_output=True, timeout=600)


def losses(run):
    return [epoch["heads"] for epoch in json.loads((run / "metrics.json").read_text())["losses"]]


def clusters(run):
    return pq.read_table(run / "labels.parquet")["cluster"].to_numpy()


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "x.npy", blobs(300, n_views=3, k=5, noise=0.4)[0])
    return tmp_path / "x.npy"


OPTIONS = ("-k", "5", "--device", "cpu", "--epochs", "5", "--no-map")


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["disjoint", "paper"])
def test_two_processes_make_the_run_of_one(objective, source, tmp_path):
    options = [*OPTIONS, "--objective", objective]
    mfavbs("cluster", source, *options, "--out", tmp_path / "one")
    code, out, err = torchrun("cluster", source, *options, "--json", "--out", tmp_path / "two")
    assert code == 0, err
    assert json.loads(out)["run"] == str(tmp_path / "two")  # one object, of one process
    assert err.count("Clustering") == err.count("300 images in 5 clusters") == 1
    assert np.allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    assert adjusted_rand_score(clusters(tmp_path / "one"), clusters(tmp_path / "two")) >= 0.99


def bytes_of(store):
    return {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_three_processes_encode_the_bytes_of_one(tmp_path):
    pictures = tmp_path / "pictures"
    for seed in range(30):
        write(pictures / f"{seed:02}.png", encoded(noise(40, 30 + seed)))
    write(pictures / "broken.png", b"no picture")
    options = ["--encoder", "pixels", "--image-size", "16", "--workers", "1"]
    mfavbs("embed", pictures, *options, "--out", tmp_path / "one")
    code, out, err = torchrun(
        "embed", pictures, *options, "--json", "--out", tmp_path / "three", n=3
    )
    assert code == 0, err
    assert json.loads(out)["shape"][0] == 30
    assert err.count("Encoding") == 1
    assert bytes_of(tmp_path / "three") == bytes_of(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_of_two_killed_ends_both_and_the_same_command_goes_on(rank, source, tmp_path):
    run = tmp_path / "run"
    command = ("cluster", source, *OPTIONS[:-2], "60", "--no-map", "--out", run)
    launcher = torchrun(*command, wait=False)
    wait_until(lambda: (run / "checkpoint.pt").exists() or launcher.poll() is not None)
    children = psutil.Process(launcher.pid).children()
    (victim,) = [child for child in children if child.environ().get("RANK") == rank]
    victim.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    assert time.monotonic() - killed < 100
    assert not any(child.is_running() for child in children)
    assert not (run / "run.json").exists()
    code, _, err = torchrun(*command)
    assert code == 0, err
    assert (run / "run.json").exists()


@pytest.mark.slow
def test_what_a_user_does_wrong_is_said_once_and_ends_all(source, tmp_path):
    code, out, err = torchrun("cluster", tmp_path / "nowhere", *OPTIONS, "--out", tmp_path / "run")
    assert code != 0
    assert out == ""
    assert err.count("nowhere does not exist") == 1
    np.save(source, blobs(3)[0])
    code, out, err = torchrun("cluster", source, "-k", "2", "--out", tmp_path / "run", n=4)
    assert code != 0
    assert err.count("3 images are too few for 4 processes (WORLD_SIZE)") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_training_that_fails_ends_all(source, tmp_path):
    script = (
        "import sys, mfavbs; mfavbs.cluster_images(sys.argv[1], 5, out=sys.argv[2], device='cpu', "
        "epochs=4, learning_rate=1e30)"
    )
    (tmp_path / "diverges.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", tmp_path / "diverges.py", source, tmp_path / "run"]
    found = subprocess.run(command, env=ALONE, capture_output=True, text=True, timeout=600)
    assert found.returncode != 0
    assert found.stderr.count("MfavbsError: The training diverged") == 1
