"""One process at a time in an output folder."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import mfavbs
from interrupting import QUICK, Ground

from mfavbs.errors import RunError, StoreError
from mfavbs.locking import LOCK, alone_in

HOLD = """
import sys, time
from pathlib import Path
from mfavbs.locking import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("locked"))


def test_the_second_is_told_and_a_kill_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    process = hold(folder)
    try:
        with pytest.raises(RunError, match=r"Another process of mfavbs is at work in .*out"):
            with alone_in(folder):
                pass
        with pytest.raises(StoreError):
            with alone_in(folder, StoreError):
                pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / LOCK).exists()
    with alone_in(folder):
        (folder / "mine").touch()
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_threads_are_kept_apart_too(tmp_path: Path) -> None:
    told = []

    def second() -> None:
        try:
            with alone_in(tmp_path):
                pass
        except RunError as error:
            told.append(str(error))

    with alone_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(told) == 1


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with alone_in(tmp_path / "new"):
        assert (tmp_path / "new" / LOCK).exists()
    assert not list(tmp_path.iterdir())
    with alone_in(tmp_path):  # was there before
        pass
    assert tmp_path.is_dir()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    code = HOLD.replace("print(", "import os\n    if not os.fork(): time.sleep(60)\n    print(")
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    time.sleep(0.1)
    with alone_in(tmp_path):
        pass


@pytest.mark.parametrize("command", ["cluster", "embed", "predict", "report", "bench"])
def test_every_command_is_told(command: str, ground: Ground) -> None:
    out = ground.folder / "out"
    ground.begin(command, out)
    with alone_in(out):
        before = sorted(path.name for path in out.rglob("*"))
        result = mfavbs(*ground.arguments(command, out), folder=ground.folder)
        assert sorted(path.name for path in out.rglob("*")) == before
    assert result.code == 1
    lines = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Another process of mfavbs is at work in" in lines[0]


def test_two_at_once_one_is_told_and_the_other_unharmed(ground: Ground) -> None:
    out = ground.folder / "both"
    words = ["cluster", "photos", "-k", "3", *map(str, QUICK), "--epochs", "2", "--out", str(out)]
    command = [sys.executable, "-m", "mfavbs", *words]
    both = [
        subprocess.Popen(command, cwd=ground.folder, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, said
    for code, text in zip(codes, said):
        # Started far apart on a busy machine, the second finds the finished run.
        assert (code == 0) or "Another process of mfavbs is at work in" in text
    first = (ground.folder / "run" / "labels.csv").read_bytes()
    assert (out / "labels.csv").read_bytes() == first
