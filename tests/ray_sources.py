"""Images as Ray's processes meet them: each reads them by this module.

A class of its own for each misfortune, since what a test patches is patched in its process alone.
"""

import os
import time
from pathlib import Path

from mfavbs.encoders.encoder import Encoder
from mfavbs.errors import ImageError
from mfavbs.images.candidates import Images


class Deadly(Images):
    """Reading one of some rows kills the process that does: the first time, or each time."""

    def __init__(self, images: Images, rows: list[int], marks: Path, *, once: bool = True) -> None:
        super().__init__(images.location, images.keys, images.skipped)
        self.kind = images.kind
        self._images, self._rows, self._marks, self._once = images, rows, marks, once
        self._main = os.getpid()

    def stat(self, row: int) -> tuple[int, float]:
        return self._images.stat(row)

    def read(self, row: int):
        mark = self._marks / f"{row}.killed"
        if row in self._rows and os.getpid() != self._main and not (self._once and mark.exists()):
            mark.touch()
            os.kill(os.getpid(), 9)
        return self._images.read(row)


class Slow(Images):
    """Reading takes its time, and notes which process did it."""

    def __init__(self, images: Images, seconds: float, marks: Path) -> None:
        super().__init__(images.location, images.keys, images.skipped)
        self.kind = images.kind
        self._images, self._seconds, self._marks = images, seconds, marks

    def stat(self, row: int) -> tuple[int, float]:
        return self._images.stat(row)

    def read(self, row: int):
        (self._marks / f"{os.getpid()}.{row}").touch()
        time.sleep(self._seconds)
        return self._images.read(row)

    def readings(self) -> set[tuple[int, int]]:
        """Process and row of what has been read."""
        return {tuple(map(int, path.name.split("."))) for path in self._marks.iterdir()}


class Unseen(Images):
    """Only the process that opened it has it: a disk of one machine."""

    def __init__(self, images: Images) -> None:
        super().__init__(images.location, images.keys, images.skipped)
        self.kind = images.kind
        self._images, self._main = images, os.getpid()

    def stat(self, row: int) -> tuple[int, float]:
        return self._images.stat(row)

    def read(self, row: int):
        if os.getpid() != self._main:
            raise ImageError("No such file or directory")
        return self._images.read(row)


class Overflowing(Encoder):
    """Gives what float16 cannot hold."""

    def forward(self, images):
        return super().forward(images) + 1e6
