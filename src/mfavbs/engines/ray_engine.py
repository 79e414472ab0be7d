"""Images read and encoded by the tasks of a Ray cluster.

In: batches of rows. Out: a part for each, in order, with the features that this machine would give.

A task is a few batches, done as :mod:`mfavbs.features.locally` does them. Ray begins it again
elsewhere where its process or its machine is lost: that costs what was running there, no more.
"""

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)

from mfavbs.engines import ray_tasks
from mfavbs.engines.ray_cluster import check_workers, connected, n_cpus
from mfavbs.errors import EngineError
from mfavbs.features import Part, Work
from mfavbs.progress import say

_IMAGES = 32  # in a task: a second's work, which is what a lost process costs
_TASKS = 4  # at least for each process, that all of them end at about the same time
_AHEAD = 16  # tasks a process that may be begun before the oldest is taken: it may be a lost one
_TRIES = 10  # more of a task whose process or machine was lost
_SECONDS = 10.0  # between two looks at how large the cluster is now
_SILENT = 600.0  # seconds after which a person is told that nothing comes
_LOST = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)

Begun = deque[tuple[list[Sequence[int]], Any]]


@contextlib.contextmanager
def encoded_by_ray(address: str | None, work: Work) -> Iterator[Iterator[Part]]:
    """Parts read and encoded by Ray, in the order of the batches.

    Parameters
    ----------
    address
        ``HOST:PORT`` of a cluster's head or ``"auto"``; None starts a Ray on this machine, and ends
        it.
    work
        See :data:`mfavbs.features.Engine`. Its ``n_workers`` is the size of the Ray that is
        started, or how many tasks of a cluster are begun at a time; None is all there is.

    Raises
    ------
    EngineError
        Ray cannot be had, a node has another version, or a task was lost again and again.
    SourceError
        A node does not see the images.
    """
    if not work.batches:
        yield iter(())
        return
    check_workers(work.n_workers)
    # What is begun ends with the connection. In a caller's own it runs out, seconds later: to
    # cancel a task that is about to answer ends this process (Ray 2.60, a failed check in its C++).
    with connected(address, work.n_workers):
        yield _in_order(work, work.n_workers if address else None)


def _in_order(work: Work, most: int | None) -> Iterator[Part]:
    """Begin task after task, and take the oldest when ``most`` or enough are begun."""
    begun: Begun = deque()
    begin = _beginning(work)
    room, asked = 0, -_SECONDS
    for rows in _tasks(work.batches):
        if time.monotonic() - asked > _SECONDS:  # a cluster may grow and shrink
            room, asked = most or _AHEAD * n_cpus(), time.monotonic()
        while len(begun) >= room:
            yield from _answer(begun, work)
        begun.append((rows, begin(rows)))
    while begun:
        yield from _answer(begun, work)


def _tasks(batches: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Batches in portions of a task."""
    n = max(1, min(_IMAGES // len(batches[0]), len(batches) // (_TASKS * n_cpus())))
    return (list(batches[i : i + n]) for i in range(0, len(batches), n))


def _beginning(work: Work) -> Callable[[list[Sequence[int]]], Any]:
    """What begins a task: on CPUs one that reads and encodes, else one of each, the second with a
    GPU of its own."""
    # Once to every node, by Ray's own store: a node needs neither the weights nor their file.
    job = ray.put(ray_tasks.packed(work, ray.get_runtime_context().get_node_id()))
    args = (ray_tasks.versions(), [job])
    options: dict[str, Any] = {"max_retries": _TRIES, "num_cpus": 1}
    if work.dataset.drawn_here:
        whole = ray.remote(ray_tasks.read_and_encode).options(name="mfavbs", **options)
        return lambda rows: whole.remote(*args, rows)
    read = ray.remote(ray_tasks.read).options(name="mfavbs read", **options)
    if work.encoding.device.type == "cuda":
        seen = {"env_vars": {"RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES": "1"}}
        options |= {"num_cpus": 0, "num_gpus": 1, "max_calls": 0, "runtime_env": seen}
    encode = ray.remote(ray_tasks.encode).options(name="mfavbs encode", **options)
    return lambda rows: encode.remote(*args, read.remote(*args, rows))


def _answer(begun: Begun, work: Work) -> list[Part]:
    """What the oldest task has made."""
    rows, task = begun[0]
    try:
        while True:
            with contextlib.suppress(GetTimeoutError):
                parts = ray.get(task, timeout=_SILENT)
                break
            say(
                f"Ray has given nothing for {_SILENT:,.0f} seconds: see by `ray status` whether it "
                "has free CPUs, or GPUs where this machine has one."
            )
    except RayTaskError as error:
        raise _as_here(error) from error
    except _LOST as error:
        keys = work.dataset.images.keys
        names = [keys[row] for batch in rows for row in batch]
        raise EngineError(
            f"Ray lost the process that encodes {', '.join(names[:4])}"
            f"{', ...' if len(names) > 4 else ''} {_TRIES + 1} times ({type(error).__name__}); "
            "what is finished is kept: run the same command again, with fewer n_workers= if memory "
            "is short, or without those images if it ends there again"
        ) from error
    except RayError as error:
        raise EngineError(
            f"Ray cannot go on ({type(error).__name__}: {str(error).splitlines()[0]}); what is "
            "finished is kept: see that its head runs, and run the same command again"
        ) from error
    begun.popleft()
    return parts


def _as_here(error: RayTaskError) -> Exception:
    """What went wrong in a task, as if it had gone wrong here."""
    cause = error.cause
    missing = re.search(r"No module named '([\w.]+)'", str(cause))
    if missing and isinstance(cause, ImportError | RuntimeError | RaySystemError):
        return EngineError(
            f"a node of the Ray cluster has no Python module {missing[1]}; install the same "
            "packages there as here"
        )
    return cause if isinstance(cause, Exception) else error
