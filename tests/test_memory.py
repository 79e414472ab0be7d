"""In: bounds, files of the system, arrays. Out: bytes, files that nobody sees, peaks."""

import mmap
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mfavbs.errors import MfavbsError, SourceError
from mfavbs.memory import (
    _of_groups,
    checked_memory,
    let_go,
    machine_memory,
    peak_memory_mib,
    peak_memory_of,
    scratch,
)

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
MIB = 2**20


@pytest.mark.parametrize(
    ("memory", "n_bytes"),
    [
        (5, 5),
        ("8G", 8 * 2**30),
        ("8 GiB", 8 * 2**30),
        ("1.5gb", 3 * 2**29),
        ("500M", 500 * MIB),
        ("64k", 2**16),
        ("123", 123),
        (np.int64(2**33), 2**33),
        ("9" * 400, 2**60),
    ],
)
def test_a_size_is_a_number_of_bytes(memory, n_bytes):
    assert checked_memory(memory) == n_bytes


@pytest.mark.parametrize("memory", ["", "much", "-1G", "0", 0, -5, True, 1.5, "8X", "G"])
def test_what_is_no_size_is_refused(memory):
    with pytest.raises(SourceError, match="should be a size as '8G'"):
        checked_memory(memory)


def test_by_default_half_of_what_there_is_may_be_taken():
    assert checked_memory(None) == machine_memory() // 2
    assert machine_memory() > 100 * MIB


def test_slurm_bounds_the_machine(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "300")  # MB, as Slurm has it
    assert machine_memory() == 300 * MIB
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "what")
    assert machine_memory() != 300 * MIB


@pytest.mark.parametrize(
    ("said", "file", "limit"),
    [
        ("0::/", "memory.max", 7),  # within a container
        ("0::/user/job", "user/job/memory.max", 7),
        ("0::/user/job", "user/memory.max", 7),  # the group around it
        ("4:memory:/user/job\n0::/", "memory/user/job/memory.limit_in_bytes", 7),
        ("5:cpu,memory:/job", "memory/memory.limit_in_bytes", 7),
        ("5:cpu:/job", "memory/memory.limit_in_bytes", None),
        ("0::/", "memory.max", "max"),
    ],
)
def test_control_groups_bound_the_machine(said, file, limit, tmp_path):
    mounted = tmp_path / "cgroup"
    (mounted / file).parent.mkdir(parents=True)
    (mounted / file).write_text(f"{7 if limit is None else limit}\n")
    (tmp_path / "self").write_text(said + "\n")
    assert _of_groups(tmp_path / "self", mounted) == ([7] if limit == 7 else [])


def test_there_may_be_no_control_groups(tmp_path):
    assert _of_groups(tmp_path / "nothing", tmp_path) == []


def test_numbers_on_the_disk_are_in_no_file_that_is_seen(tmp_path):
    array = scratch((100, 3), np.float32, tmp_path)
    array[:] = np.arange(300).reshape(100, 3)
    assert not list(tmp_path.iterdir())
    let_go(array)
    np.testing.assert_array_equal(array, np.arange(300).reshape(100, 3))


def test_a_disk_without_room_is_told_before_it_is_needed(tmp_path):
    with pytest.raises(MfavbsError, match=r"of disk are needed in .*Make room there"):
        scratch((2**50,), np.float32, tmp_path)
    with pytest.raises(MfavbsError, match="No such file"):
        scratch((1,), np.float32, tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_a_kill_leaves_nothing_on_the_disk(tmp_path):
    code = f"""
import time
from pathlib import Path
from mfavbs.memory import scratch
array = scratch((1000, 1000), "float32", Path({str(tmp_path)!r}))
array[:] = 1
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        process.send_signal(signal.SIGKILL)
    assert not list(tmp_path.iterdir())


def test_what_is_let_go_is_read_again_and_no_change_is_lost(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(1000.0))
    kept = np.load(path, mmap_mode="c")
    kept[3] = -1  # in this process alone
    read = np.load(path, mmap_mode="r")
    for array in (kept, read, read[5:, None], np.asarray(read), np.arange(3)):
        before = array.copy()
        let_go(array)
        np.testing.assert_array_equal(array, before)
    assert kept[3] == -1


@LINUX
def test_what_is_let_go_takes_no_memory(tmp_path):
    array = scratch((64, MIB), np.uint8, tmp_path)
    array[:] = 1
    held = resident_mib()
    let_go(array)
    assert held - resident_mib() > 50


def resident_mib():
    with open("/proc/self/status") as file:
        return int(file.read().split("VmRSS:")[1].split()[0]) / 1024


def hold(n_bytes):
    """Take memory from the system for a moment, and not what the process kept of an earlier use."""
    with mmap.mmap(-1, n_bytes) as pages:
        pages[:: mmap.PAGESIZE] = bytes(n_bytes // mmap.PAGESIZE)


@LINUX
def test_the_peak_of_a_stage_is_its_own():
    with peak_memory_of() as whole:
        with peak_memory_of() as large:
            hold(200 * MIB)
        with peak_memory_of() as small:
            time.sleep(0)
    assert large() - small() > 150
    assert whole() >= large()
    assert peak_memory_mib() >= whole()


@LINUX
def test_the_peaks_of_stages_that_overlap_are_their_own():
    """As those of two threads do."""
    one, two = peak_memory_of(), peak_memory_of()
    large = one.__enter__()
    hold(200 * MIB)
    small = two.__enter__()
    one.__exit__(None, None, None)
    two.__exit__(None, None, None)
    assert large() - small() > 150
