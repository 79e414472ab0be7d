"""Processes that read images and draw their views, or this one alone, whatever becomes of those.

In: batches of rows. Out: a :class:`Part` for each, in order. Views come through pipes, for a
container has 64 MB of shared memory; the larger bases of views through memory that is shared, where
there is room.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from mfavbs.errors import StoreError
from mfavbs.features.parts import Part
from mfavbs.features.passing import pass_on, shared_region, take_over
from mfavbs.features.reading import ImageViews

_CORES_A_WORKER = 4  # on a CPU: views of an image take 5 ms to draw, 20 to encode with MobileNetV2
STALLED = 600.0  # seconds without the next batch: a disk that answers no more, not a large picture
_AHEAD = 4  # batches that each process may be ahead of the encoder
_BASES_AHEAD = 2  # of bases, which are larger: 60 MB of photographs of 500 pixels
_SECONDS = 1.0  # between two looks whether the other side still lives


def workers_for(device: str) -> int:
    """How many processes read where the encoder is on such a device."""
    # An accelerator leaves the cores to the workers; on a CPU the encoder needs most of them.
    return max(1, n_cores() // _CORES_A_WORKER if device == "cpu" else n_cores() - 1)


def n_cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # what a container or a job has been given
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def encoder_threads(device: str, n_workers: int) -> Iterator[None]:
    """Leave the workers their cores: with threads that wait for each other, a core too few costs
    far more than its share (2 busy cores, MobileNetV2: 24 images a second with one thread, 8 with
    two)."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(before, n_cores() - n_workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def may_have_workers() -> bool:
    """Whether this process may start others, which a daemonic one may not.

    One that is a worker itself and imports its parent's script, for want of a main guard, ends
    here: the parent says what is wrong.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        raise SystemExit(1)
    return not process.daemon


@contextlib.contextmanager
def parts_of(
    rows_to_views: ImageViews,
    batches: Sequence[Sequence[int]],
    n_workers: int,
    *,
    pinned: bool = False,
) -> Iterator[Iterator[Part]]:
    """Parts of all batches in order, made by ``n_workers`` processes, which end with the context.

    Parameters
    ----------
    rows_to_views, batches, n_workers
        What reads an image, the rows of each part, and how many processes; 0: this one.
    pinned
        Whether bases of views come in memory that a GPU can read by itself.

    Raises
    ------
    StoreError
        A process could not be started, died, or gave nothing for ten minutes.
    """
    if not n_workers:
        yield (_part(rows_to_views, rows) for rows in batches)
        return
    workers: list[_Worker] = []
    pool = ThreadPoolExecutor(n_workers)  # a thread waits for each process
    try:
        _start(workers, n_workers, rows_to_views, pinned)
        ahead = n_workers * (_AHEAD if rows_to_views.drawn_here else _BASES_AHEAD)
        yield _in_order(workers, pool, batches, rows_to_views.images.keys, ahead)
    finally:
        for worker in workers:
            worker.process.kill()
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.process.join()


def _part(rows_to_views: ImageViews, rows: Sequence[int]) -> Part:
    return Part([rows_to_views[row] for row in rows])


def _start(
    workers: list["_Worker"], n_workers: int, rows_to_views: ImageViews, pinned: bool
) -> None:
    if not may_have_workers():
        raise StoreError(
            f"expected a process that may start others, to read images with n_workers={n_workers}; "
            "this one is daemonic; give n_workers=0"
        )
    try:
        for _ in range(n_workers):
            region = None if rows_to_views.drawn_here else shared_region(n_workers)
            workers.append(_Worker(rows_to_views, region, pinned))
    except OSError as error:
        raise StoreError(
            f"the processes that read images cannot be started: {error.strerror or error}; run "
            "the same command again with fewer n_workers=, or with n_workers=0"
        ) from error


def _in_order(
    workers: list["_Worker"],
    pool: ThreadPoolExecutor,
    batches: Sequence[Sequence[int]],
    keys: list[str],
    ahead: int,
) -> Iterator[Part]:
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def read(rows: Sequence[int]) -> Part:
        worker = free.get()
        try:
            return worker.read(rows, keys)
        finally:
            free.put(worker)

    asked: deque[tuple[Sequence[int], Future[Part]]] = deque()
    for rows in batches:
        asked.append((rows, pool.submit(read, rows)))
        if len(asked) > ahead:
            yield _answer(*asked.popleft(), keys)
    while asked:
        yield _answer(*asked.popleft(), keys)


def _answer(rows: Sequence[int], future: "Future[Part]", keys: list[str]) -> Part:
    try:
        return future.result(STALLED)
    except NotInTime as error:
        raise StoreError(
            f"a process that reads images gave nothing for {STALLED:,.0f} seconds, at "
            f"{_names(rows, keys)}; what is finished is kept: see that the disk answers, or leave "
            "those images out, and run the same command again"
        ) from error


class _Worker:
    """A process that makes the parts of one batch after the other."""

    def __init__(self, rows_to_views: ImageViews, region: Any, pinned: bool) -> None:
        self._answered = False
        self._region = region
        self._pinned = pinned
        self._ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=_serve, args=(rows_to_views, theirs, region), daemon=True
        )
        self.process.start()
        theirs.close()  # so that its death ends what we read

    def read(self, rows: Sequence[int], keys: list[str]) -> Part:
        try:
            self._ours.send(rows)
            self._wait()
            answer: Any = self._ours.recv()
            self._answered = True
            bases = answer.bases if isinstance(answer, Part) else None
            if bases is not None and bases.pixels is None:
                bases.pixels = take_over(
                    *(self._ours, bases.n_bytes, self._region, self._wait), pinned=self._pinned
                )
        except (EOFError, OSError) as error:
            raise StoreError(self._death(_names(rows, keys))) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait(self) -> None:
        while not self._ours.poll(_SECONDS):
            if not self.process.is_alive() and not self._ours.poll():
                raise EOFError

    def _death(self, names: str) -> str:
        self.process.join(_SECONDS)
        code = self.process.exitcode
        forked = multiprocessing.get_start_method() == "fork"
        if code == 1 and not (forked or self._answered):
            return (
                "a process that reads images could not start: it imports the script that called, "
                "which begins all over in it; put what the script does under `if __name__ == "
                '"__main__":`, or give n_workers=0'
            )
        how = f"ended with code {code}"
        if code is not None and code < 0:
            how = f"was killed ({signal.Signals(-code).name})"
            how += ", as when memory runs out" if code == -signal.SIGKILL else ""
        return (
            f"a process that reads images {how}, at {names}; what is finished is kept: run the "
            "same command again, with fewer n_workers= if memory is short, or without those images "
            "if it ends there again"
        )


def _names(rows: Sequence[int], keys: list[str]) -> str:
    return ", ".join(keys[row] for row in rows[:4]) + (", ..." if len(rows) > 4 else "")


def _serve(rows_to_views: ImageViews, connection: Connection, region: Any) -> None:
    # Ctrl-C reaches all processes of a terminal; the main one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = os.getppid()
    with contextlib.suppress(EOFError, OSError):  # nobody asks any more
        while True:
            while not connection.poll(_SECONDS):
                if os.getppid() != parent:
                    return
            rows = connection.recv()
            try:
                answer: Part | Exception = _part(rows_to_views, rows)
            except Exception as error:
                answer = error
            if region is not None and isinstance(answer, Part) and answer.bases is not None:
                pixels, answer.bases.pixels = answer.bases.pixels, None
                pass_on(connection, answer, np.asarray(pixels), region)
            else:
                connection.send(answer)
