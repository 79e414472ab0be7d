"""Rows of ``gpu.py``: figures as they are measured, and how a rate is."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

SECONDS = 1.5  # that a rate is measured for


class Row(NamedTuple):
    """One measured figure."""

    name: str
    value: float
    unit: str
    note: str = ""


class Table:
    """Rows, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.start = time.perf_counter()

    def add(self, row: Row) -> float:
        self.rows.append(row)
        seconds = time.perf_counter() - self.start
        value = f"{row.value:,.4f}" if abs(row.value) < 10 else f"{row.value:,.0f}"
        print(f"{seconds:6.1f} s  {row.name:58} {value:>12} {row.unit:12} {row.note}", flush=True)
        return row.value

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What fails in it is told, and what comes after it is measured all the same."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            self.add(Row(name, float("nan"), "", f"FAILED: {reason}"))


def wait_for(device: torch.device) -> None:
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).synchronize()


def rate(step: Callable[[], Any], amount: float, device: torch.device, seconds: float) -> float:
    """``amount`` a second, of a step that is repeated for about so many seconds."""
    for _ in range(2):
        step()
    wait_for(device)
    n, start = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - start < seconds:
        for _ in range(4):  # more than one at a time, so that a card need not wait for the clock
            step()
        n += 4
        wait_for(device)
    return n * amount / (time.perf_counter() - start)
