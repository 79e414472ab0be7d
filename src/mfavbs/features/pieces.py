"""What has been encoded for a state of a store that is not finished: a few seconds' work a file.

In: what came of each candidate image: features, or a reason why there are none. Out: files that are
whole or not there, and everything in them again, whatever became of the process that wrote them.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mfavbs.errors import StoreError
from mfavbs.files import write_whole
from mfavbs.images import LOOK

PIECES = "pieces"
SECONDS, IMAGES = 3.0, 2048  # of work, and of images, in one file at most


class Seen(NamedTuple):
    """What came of one candidate: its file's size and time, its content's hash or a reason."""

    key: str
    size: int
    time: float
    hash: str | None
    reason: str | None
    warning: str | None = None

    @property
    def stat(self) -> tuple[int, float]:
        """Size and time."""
        return self.size, self.time


@dataclass
class Pieces:
    """The pieces in one folder: those that are there, and the one being filled.

    Attributes
    ----------
    seen
        What came of each candidate, by key; the last word counts.
    place
        Content hash -> piece and row in which its features lie.
    """

    folder: Path
    seen: dict[str, Seen] = field(default_factory=dict)
    place: dict[str, tuple[int, int]] = field(default_factory=dict)
    _number: int = 0
    _waiting: list[tuple[list[Seen], list[str], np.ndarray | None, np.ndarray]] = field(
        default_factory=list
    )
    _since: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, folder: Path) -> "Pieces":
        """Find what an interrupted call has left in ``folder``."""
        pieces = cls(folder)
        for path in sorted(folder.glob("*.safetensors")):
            number = int(path.stem)
            with opened(path) as file:
                about = file.metadata()
                rows = [Seen(*row) for row in json.loads(about["seen"])]
                hashes = json.loads(about["hashes"])
            pieces._take(number, rows, hashes)
        return pieces

    def add(
        self, seen: list[Seen], hashes: list[str], features: np.ndarray | None, looks: np.ndarray
    ) -> None:
        """Take in what came of some candidates.

        Parameters
        ----------
        seen
            One for each candidate.
        hashes, features, looks
            (m,) contents that were encoded, (m, v, t, d) float16, None where there are none, and
            (m,) of the type `mfavbs.images.LOOK`.
        """
        # At once: Ctrl-C may come at any moment.
        self._waiting.append((seen, hashes, features, looks))
        n = sum(len(some[0]) for some in self._waiting)
        if n >= IMAGES or time.monotonic() - self._since > SECONDS:
            self.flush()

    @property
    def flushed(self) -> bool:
        """Whether all that was taken in is on the disk."""
        return not self._waiting

    def flush(self) -> None:
        """Write what has been taken in since the last time."""
        if self._waiting:
            seen, contents, arrays, some = zip(*self._waiting, strict=True)
            rows: list[Seen] = [row for each in seen for row in each]
            hashes: list[str] = [content for each in contents for content in each]
            given = [features for features in arrays if features is not None]
            features = np.concatenate(given) if given else np.empty((0,) * 4, np.float16)
            looks = np.concatenate(some)
            looks = looks.view(np.uint8).reshape(len(looks), LOOK.itemsize)
            about = {"seen": json.dumps(rows), "hashes": json.dumps(hashes)}
            content = save({"features": features, "looks": looks}, metadata=about)
            self.folder.mkdir(exist_ok=True)
            write_whole(self._path(self._number), lambda file: file.write(content))
            self._take(self._number, rows, hashes)
            self._waiting = []
        self._since = time.monotonic()

    def _take(self, number: int, rows: list[Seen], hashes: list[str]) -> None:
        self.seen |= {row.key: row for row in rows}
        self.place |= {content: (number, row) for row, content in enumerate(hashes)}
        self._number = number + 1

    def features(self, hashes: list[str]) -> Iterator[np.ndarray]:
        """Features of these contents in this order, (m, v, t, d) at a time."""
        return self._parts("features", hashes)

    def looks(self, hashes: list[str]) -> Iterator[np.ndarray]:
        """Looks of these contents in this order, (m, LOOK.itemsize) uint8 at a time."""
        return self._parts("looks", hashes)

    def _parts(self, name: str, hashes: list[str]) -> Iterator[np.ndarray]:
        start = 0
        while start < len(hashes):
            number, first = self.place[hashes[start]]
            stop = start + 1  # what lies side by side is read at once
            while stop < len(hashes) and self.place[hashes[stop]] == (number, first + stop - start):
                stop += 1
            with opened(self._path(number)) as file:
                if name == "looks" and name not in file.keys():  # noqa: SIM118 (no dict)
                    yield np.zeros((stop - start, LOOK.itemsize), np.uint8)  # of an earlier version
                else:
                    yield file.get_slice(name)[first : first + stop - start]
            start = stop

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.safetensors"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A piece, or the error that names it."""
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the piece {path} is damaged ({error}); remove it and run the same command again"
        ) from error
