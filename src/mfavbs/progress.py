"""How far along a long step is: a bar on a terminal, plain lines elsewhere; always on stderr.

In: a step's name and its total.
Out: what a person reads; what stages took, for the record.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mfavbs.memory import peak_memory_of

_SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """A line for a person on stderr, with nothing that a file name could do to a terminal."""
    safe = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    print(safe, file=sys.stderr)


class Progress:
    """Context manager around a step that may take longer than two seconds.

    Parameters
    ----------
    name, total, unit
        What is being done, to how many of what.
    done
        How many were finished by an earlier, interrupted run.
    show
        ``False`` prints nothing.
    """

    def __init__(
        self, name: str, total: int, unit: str, done: int = 0, *, show: bool = True
    ) -> None:
        self.name, self.total, self.unit, self.show = name, total, unit, show
        self.resumed = self.done = done
        self.start = self.last_line = time.monotonic()
        console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            disable=not (show and console.is_terminal),
        )
        self.task = self.bar.add_task(name, total=total, completed=done, note="")
        self.lines = show and not console.is_terminal
        self.console = console

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()
        if self.lines and self.last_line > self.start:  # close what lines have opened
            self._print_line("")

    def advance(self, amount: int = 1, note: str | None = None, *, at_once: bool = False) -> None:
        """Count ``amount`` more as done; ``note`` replaces the rate beside the bar.

        Where there is no bar, ``at_once`` prints the line now: what comes next may take long.
        """
        self.done += amount
        seconds = max(time.monotonic() - self.start, 1e-9)
        if note is None:
            note = f"{(self.done - self.resumed) / seconds:,.0f} {self.unit}/s"
        self.bar.update(self.task, completed=self.done, note=note)
        if self.lines and (at_once or time.monotonic() - self.last_line > _SECONDS_BETWEEN_LINES):
            rest = f", {note}" if note else ""
            if self.done > self.resumed:
                left = seconds * (self.total - self.done) / (self.done - self.resumed)
                rest += f", {left:,.0f} s left"
            self._print_line(rest)

    def _print_line(self, rest: str) -> None:
        self.last_line = time.monotonic()
        line = f"{self.name}: {self.done:,} of {self.total:,} {self.unit}{rest}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass
class Stages:
    """How long each stage of a long work took, and how much memory.

    Attributes
    ----------
    seconds
        Of each stage, by name.
    peak_memory_mib
        Largest resident memory of the process while it ran, likewise.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Note what a stage takes."""
        start = time.perf_counter()
        with peak_memory_of() as peak:
            yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
        self.peak_memory_mib[stage] = round(peak(), 1)

    def add(self, whole: str, parts: "Stages") -> None:
        """Add the stages that one of them consisted of."""
        for mine, theirs in (
            (self.seconds, parts.seconds),
            (self.peak_memory_mib, parts.peak_memory_mib),
        ):
            mine |= {f"{whole}: {name}": value for name, value in theirs.items()}
