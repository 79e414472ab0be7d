"""Pixels from a worker to the process that encodes, through memory that both share.

In: the bytes of a few images. Out: the same bytes. A pipe would take as long as the decoding.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray
from typing import Any

import numpy as np
import torch

REGION = 32 * 2**20  # bytes that a worker shares; more passes in turns
_SHARED_MEMORY = "/dev/shm"  # where Linux has it; a container, often, 64 MB of it


def shared_region(n_workers: int) -> Any:
    """Memory that this process and one that it starts will share; None where there is no room.

    Parameters
    ----------
    n_workers
        How many will ask. Memory that is not there would end the process that touches it.
    """
    where = _SHARED_MEMORY if os.path.isdir(_SHARED_MEMORY) else tempfile.gettempdir()
    try:
        if shutil.disk_usage(where).free < 2 * n_workers * REGION:
            return None
        return RawArray("B", REGION)  # of a file without a name: nothing stays behind
    except OSError:
        return None


def pass_on(connection: Connection, message: Any, pixels: np.ndarray, region: Any) -> None:
    """Send a message, and behind it flat pixels, uint8."""
    shared = np.frombuffer(region, np.uint8)
    for start in range(0, len(pixels), len(shared)):
        if start:
            connection.recv()  # what was there has been taken
        some = pixels[start : start + len(shared)]
        shared[: len(some)] = some
        connection.send(message if start == 0 else None)


def take_over(
    connection: Connection, n: int, region: Any, wait: Callable[[], None], *, pinned: bool
) -> torch.Tensor:
    """The n pixels behind a message that has come.

    Parameters
    ----------
    connection, n, region
        Where it came from, and how many pixels there are.
    wait
        Called before anything more is received.
    pinned
        Whether into memory that a GPU can read by itself.
    """
    pixels = torch.empty(n, dtype=torch.uint8, pin_memory=pinned)
    # numpy: torch would copy with as many threads as there are cores, for each worker
    here, shared = pixels.numpy(), np.frombuffer(region, np.uint8)
    for start in range(0, n, len(shared)):
        if start:
            connection.send(None)
            wait()
            connection.recv()
        here[start : start + len(shared)] = shared[: n - start]
    return pixels
