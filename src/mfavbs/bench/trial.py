"""One method and one seed, in a process of its own.

In: a feature store, a method's name, k, a seed.
Out: labels (n,), the seconds of the method alone and the peak memory of its whole process.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs.bench import methods
from mfavbs.bench.from_pixels import cluster_pixels
from mfavbs.errors import MfavbsError
from mfavbs.features import FeatureStore
from mfavbs.memory import peak_memory_mib

_READ = 2**24  # bytes at once
_GOODBYE = 10  # seconds


class TrialError(Exception):
    """A method that did not come to an end, and why."""


def run_trial(
    store: Path,
    method: str,
    k: int,
    seed: int,
    device: str,
    log: Path,
    pixels: Path | None = None,
    changed: dict[str, Any] | None = None,
) -> dict:
    """Run one method on the features of a store and return what came of it.

    The process is a new one, so that its peak memory is its own; it ends with this one, however
    that ends. What the method prints goes to ``log``, which is removed if all went well. A method
    that looks at pixels is given their folder, and what is changed for all of those.

    Returns
    -------
    dict
        ``labels`` (n,); ``seconds`` of clustering, without imports, compilation and
        disk; ``peak_memory_mib`` of
        the process, with what it imported and what it read of the memory-mapped features.

    Raises
    ------
    TrialError
        With the reason in one line.
    """
    import torch

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_child,
        args=(
            *(there, store, method, k, seed, device, torch.get_num_threads(), log),
            *(pixels, changed),
        ),
    )
    try:
        process.start()
        there.close()
        answer = here.recv()
        process.join(_GOODBYE)  # what it imported may have something to clean up
    except (EOFError, OSError):
        process.join()
        died = f"its process died with exit code {process.exitcode}"
        if process.exitcode == -9:
            died += ", as when memory runs out"
        raise TrialError(died) from None
    finally:
        here.close()
        if process.pid is not None:
            process.kill()
            process.join()
    if isinstance(answer, str):
        raise TrialError(answer)
    log.unlink(missing_ok=True)
    return answer


def _child(
    there: Connection,
    store: Path,
    method: str,
    k: int,
    seed: int,
    device: str,
    n_threads: int,
    log: Path,
    pixels: Path | None,
    changed: dict[str, Any] | None,
) -> None:
    begin_child(log)
    try:
        answer: Any = _run(store, method, k, seed, device, n_threads, pixels, changed or {})
    except Exception as error:
        answer = reason_of(error)
    there.send(answer)


def begin_child(log: Path) -> None:
    """Let this process end with its parent, and only so; what it prints goes to ``log``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def reason_of(error: Exception) -> str:
    """Why a method failed, in one line; its traceback goes to the log."""
    import traceback

    traceback.print_exc()
    kind = "" if isinstance(error, MfavbsError) else f"{type(error).__name__}: "
    text = f"{kind}{error}".strip()
    return next(iter(text.splitlines()), type(error).__name__)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(
    store: Path,
    method: str,
    k: int,
    seed: int,
    device: str,
    n_threads: int,
    pixels: Path | None,
    changed: dict[str, Any],
) -> dict:
    for path in store.rglob("features.npy"):
        with open(path, "rb") as file:
            while file.read(_READ):  # into the system's cache: the seconds are not the disk's
                pass
    features = FeatureStore.open(store).features
    if not isinstance(features, np.ndarray):  # of images that came at different times
        features = np.asarray(features)
    features = methods.prepare(method, features, device)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(n_threads)
    start = time.perf_counter()
    if pixels is None:
        labels = methods.cluster(method, features, k, seed, device)
    else:
        labels = cluster_pixels(method, store, pixels, features, k, seed, device, changed)
    seconds = time.perf_counter() - start
    return {"labels": labels, "seconds": seconds, "peak_memory_mib": peak_memory_mib()}
