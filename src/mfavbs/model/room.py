"""What fits: where the numbers of all images lie during a fit, and how many are held at once.

In: shapes, and a bound in bytes. Out: rows in float32, in float16, or on the disk; numbers of rows.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfavbs.devices import fits
from mfavbs.errors import SourceError
from mfavbs.memory import checked_memory, in_words, let_go, scratch

# Shares of the bound. What is left over is for what grows with the images by a few bytes alone.
TOKENS, EMBEDDINGS, INDEX, ANSWERS = 3 / 8, 1 / 8, 1 / 4, 1 / 8
_AT_ONCE = 1 / 4  # for a sample that is computed on
_PRODUCTS = 3 * 2**28  # bytes that k-means takes for its products, at the most
_ACTIVATIONS = 32  # numbers a channel that a transformer block keeps for its gradient, and makes
_TOUCHED = 2**16  # bytes that come into memory with a row: the system maps what is around it
_LET_GO = 2**27  # bytes mapped, from which on they are given back


class Room(NamedTuple):
    """A bound in bytes, and the folder on whose disk lies what does not fit."""

    memory: int
    folder: Path | None = None


class OnDisk:
    """Rows (n, ...) float16 in a file without a name, read as a tensor is: a part at a time.

    Parameters
    ----------
    shape
        Of all of them.
    folder
        On whose disk; by default where the system has temporary files.
    """

    device = torch.device("cpu")

    def __init__(self, shape: tuple[int, ...], folder: Path | None = None) -> None:
        self.shape = torch.Size(shape)
        self._rows = scratch(shape, np.float16, folder)
        self._mapped = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        several = index if isinstance(index, tuple) else (index,)
        places = tuple(i.numpy() if isinstance(i, Tensor) else i for i in several)
        found = torch.from_numpy(np.array(self._rows[places]))  # never a view of the file
        self._count(len(found) * _TOUCHED)
        return found

    def __setitem__(self, rows: slice, values: Tensor) -> None:
        self._rows[rows] = values.to("cpu", torch.float16).numpy()
        self._count(len(values) * _TOUCHED)

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def _count(self, n_bytes: int) -> None:
        self._mapped += n_bytes
        if self._mapped > _LET_GO:
            let_go(self._rows)
            self._mapped = 0


Rows = Tensor | OnDisk


def make_room(
    shape: tuple[int, ...], share: float, room: Room, device: torch.device | str = "cpu"
) -> Rows:
    """Rows to be filled: on the device if they fit there, in memory by a share of the bound, else
    on the disk; in float32, or in float16 where that is what makes them fit.

    Parameters
    ----------
    shape
        (n, ...).
    share
        Of the bound that they may take.
    room
        The bound.
    device
        Where they had best lie.
    """
    device = torch.device(device)
    n_numbers = math.prod(shape)
    for dtype in (torch.float32, torch.float16):
        if device.type != "cpu" and fits(device, dtype.itemsize * n_numbers):
            return torch.empty(shape, dtype=dtype, device=device)
    for dtype in (torch.float32, torch.float16):
        if dtype.itemsize * n_numbers <= share * room.memory:
            return torch.empty(shape, dtype=dtype)
    return OnDisk(shape, room.folder)


def make_array(shape: tuple[int, ...], share: float, room: Room) -> np.ndarray:
    """Numbers in float32 to be filled, in memory by a share of the bound, else on the disk."""
    if 4 * math.prod(shape) <= share * room.memory:
        return np.empty(shape, np.float32)
    return scratch(shape, np.float32, room.folder)


def rows_at_once(bytes_a_row: float, most: int, room: Room) -> int:
    """How many rows of a sample can be computed on at once: at most ``most``, and at least one."""
    return max(1, min(most, int(_AT_ONCE * room.memory / bytes_a_row)))


def kmeans_rows(k: int, dim: int, n_runs: int, most: int, room: Room) -> int:
    """How many rows k-means is fitted on: at most ``most``, and at least 20 for each cluster."""
    least = min(most, 20 * k)
    fixed = 12 * dim + 16 * n_runs + 4 * k  # bytes a row
    products = 12 * n_runs * k
    free = _AT_ONCE * room.memory
    rows = max(free / (fixed + products), (free - _PRODUCTS) / fixed)
    return max(least, min(most, int(rows)))


def check_room(chosen: dict[str, Any], n_tokens: int) -> Room:
    """The room that the estimator's parameters give, each with a value.

    Raises
    ------
    SourceError
        A bound that was asked for does not hold a batch.
    """
    memory, least = checked_memory(chosen["memory"]), _least(chosen, n_tokens)
    if chosen["memory"] is None:  # nobody asked for a bound: a small machine does what it can
        return Room(max(memory, math.ceil(least)))
    if memory < least:
        raise SourceError(
            f"memory={chosen['memory']!r} does not hold a batch: {chosen['batch_size']} images and "
            f"{chosen['n_clusters']} clusters take about {in_words(least)}. Give at least that, "
            "or a smaller batch_size=."
        )
    return Room(memory)


def _least(chosen: dict[str, Any], n_tokens: int) -> float:
    """Bytes that a batch and the smallest sample for k-means take."""
    d, k, h = (chosen[name] for name in ("dim", "n_clusters", "n_cluster_heads"))
    n_pairs = 2 if chosen["objective"] == "disjoint" else 1
    views = 2 * n_pairs * chosen["batch_size"]
    wide = 2 if chosen["fusion"] == "channel" else 1
    depth = chosen["n_blocks"] * (chosen["shared_depth"] + wide * chosen["fused_depth"])
    activations = views * n_tokens * (1 + _ACTIVATIONS * depth) * d
    answers = 6 * views * h * k
    contrasted = 6 * n_pairs * h * (2 * min(k, 256)) ** 2
    weights = 4 * d * d * 12 * chosen["n_blocks"] * (chosen["shared_depth"] + wide**2)
    batch = 4 * (activations + answers + contrasted + weights + 4 * h * k * d)
    sample = 20 * k * (12 * d + 4 * k) + min(_PRODUCTS, 12 * 24 * k * 20 * k)
    return max(batch, sample if chosen["init"] == "k-means++" else 0)
