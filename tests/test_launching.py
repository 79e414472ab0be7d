"""In: a launcher of two processes. Out: one that works, another that says so and ends well."""

import os
import subprocess
import sys

import numpy as np
import pytest
from feature_blobs import blobs

from mfavbs.launching import leave_to_first_process

MFAVBS = "from mfavbs.cli import main; main()"
PYTHON = (
    "import sys, mfavbs; source, out = sys.argv[2], sys.argv[-1]; "
    "mfavbs.cluster_images(source, 3, out=out, device='cpu', epochs=1)"
)


@pytest.mark.parametrize("code", [MFAVBS, PYTHON], ids=["command line", "cluster_images"])
def test_of_two_processes_the_first_works_and_the_other_says_so(code, tmp_path):
    np.save(tmp_path / "x.npy", blobs(60)[0])
    options = ["-k", "3", "--device", "cpu", "--epochs", "1", "--out", str(tmp_path / "run")]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, "cluster", str(tmp_path / "x.npy"), *options],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
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
