"""The trials of a suite: run one after the other in one process, and kept in one file.

In: methods, seeds, features. Out: ``trials.jsonl``, a line for each trial as soon as it has ended.
The file only grows; what another call or machine has added to it is not run again.
"""

import base64
import json
import math
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs.bench import methods
from mfavbs.bench.trial import begin_child, reason_of
from mfavbs.features import FeatureStore
from mfavbs.metrics import score

_COLLAPSED = 0.5  # of the labels' effective number of clusters


def read_trials(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of trials, in their order; a line that a kill cut short is left out."""
    found = []
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            trial = json.loads(line)
        except ValueError:
            continue
        if isinstance(trial, dict):
            found.append(trial)
    return found


def append_trial(file: Path, trial: dict[str, Any]) -> None:
    """Add a line, on the disk before this returns."""
    with open(file, "ab+") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        cut = size > 0 and opened.read(1) != b"\n"
        opened.write(b"\n" * cut + json.dumps(trial).encode() + b"\n")
        opened.flush()
        os.fsync(opened.fileno())


def pack(labels: np.ndarray) -> str:
    """Labels (n,) in 0..65535 as text: base64 of zlib of little-endian uint16."""
    return base64.b64encode(zlib.compress(np.asarray(labels).astype("<u2").tobytes(), 9)).decode()


def unpack(text: str) -> np.ndarray:
    """What :func:`pack` made text of, (n,) uint16."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u2")


def judge(labels: list[str], clusters: np.ndarray) -> dict[str, Any]:
    """Scores of a clustering (n,), and whether it has far fewer clusters than there are classes.

    Their number is an effective one, exp of the entropy of the sizes: k of equal size count as k.
    """
    clusters = np.unique(clusters, return_inverse=True)[1]
    wanted = np.unique(labels, return_inverse=True)[1]
    return {
        "scores": score(labels, clusters),
        "n_found": int(clusters.max()) + 1,
        "collapsed": effective(clusters) < _COLLAPSED * effective(wanted),
        "labels": pack(clusters),
    }


def effective(labels: np.ndarray) -> float:
    """exp of the entropy of the clusters' sizes, in 1..k."""
    share = np.bincount(labels) / len(labels)
    share = share[share > 0]
    return math.exp(-(share * np.log(share)).sum())


class Worker:
    """A process that runs trials, begun when it is first asked and again after it has died."""

    def __init__(self, device: str, log: Path) -> None:
        self.device, self.log = device, log
        self._process: Any = None

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """``clusters`` (n,) and ``seconds`` of one trial; or ``error``, why there are none."""
        try:
            if self._process is None:
                self._begin()
            self._pipe.send(job)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            self.end()
            memory = ", as when memory runs out" if code == -9 else ""
            return {"error": f"its process died with exit code {code}{memory}"}
        return {"error": answer} if isinstance(answer, str) else answer

    def end(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _begin(self) -> None:
        import torch

        self._pipe, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(there, self.device, torch.get_num_threads(), self.log)
        )
        self._process.start()
        there.close()


@contextmanager
def worker(device: str, log: Path) -> Iterator[Worker]:
    """A :class:`Worker` that ends with the block."""
    found = Worker(device, log)
    try:
        yield found
    finally:
        found.end()


def _work(there: Connection, device: str, n_threads: int, log: Path) -> None:
    begin_child(log)
    ready: dict[tuple, np.ndarray] = {}  # features as a method is given them, of the last cell
    while True:
        try:
            job = there.recv()
        except EOFError:
            return
        try:
            answer: Any = _answer(job, ready, device, n_threads)
        except Exception as error:
            answer = reason_of(error)
        there.send(answer)


def _answer(job: dict, ready: dict[tuple, np.ndarray], device: str, n_threads: int) -> dict:
    cell = (job["store"], tuple(job["rows"]))
    if not any(key[:2] == cell for key in ready):
        ready.clear()
        # Copied into memory: the seconds are not the disk's.
        ready[(*cell, "")] = np.array(FeatureStore.open(job["store"]).features[job["rows"]])
    name = job["name"]
    if (*cell, name) not in ready:
        ready[(*cell, name)] = methods.prepare(name, ready[(*cell, "")], device)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n_threads)
    start = time.perf_counter()
    clusters = methods.cluster(
        name, ready[(*cell, name)], job["k"], job["seed"], device, job["parameters"]
    )
    return {"clusters": np.asarray(clusters), "seconds": time.perf_counter() - start}
