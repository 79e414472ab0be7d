"""Files below a URL: read, fetched, sent and removed.

In: a URL that fsspec knows. Out: files on this disk, whole or not at all; files there.
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

from mfavbs.files import write_whole
from mfavbs.progress import Progress
from mfavbs.urls import attempt, file_system

_LONG = 100 * 2**20  # bytes from which on it is shown how far along a transfer is
_MIB = 2**20
_BLOCK = 16 * 2**20  # bytes asked for in one request
_AT_ONCE = 4  # requests


class Place:
    """What lies below a URL. Its methods raise `OSError`, with a text that a user can read.

    Parameters
    ----------
    url
        Of a folder; there need not be any.

    Raises
    ------
    SourceError
        No such kind of place is known, or a package for it is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = file_system(url)

    def read(self, name: str) -> bytes | None:
        """All of a small file; None where there is none."""
        try:
            return bytes(self._try(lambda: self._files.cat_file(self._at(name))))
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none."""
        self._files.invalidate_cache()
        try:
            info = self._try(lambda: self._files.info(self._at(name)))
        except FileNotFoundError:
            return None
        return int(info.get("size") or 0)

    def names(self) -> dict[str, int]:
        """Size of every file below, by its path from here."""
        self._files.invalidate_cache()
        try:
            found = self._try(lambda: self._files.find(self._root, detail=True))
        except FileNotFoundError:
            return {}
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: int(info.get("size") or 0) for path, info in found.items()}

    def fetch(self, name: str, to: Path, size: int, advance: Callable[[int], object]) -> None:
        """Copy a file of so many bytes to this disk; ``advance`` is told how many have come."""

        def block(start: int) -> bytes:
            stop = min(size, start + _BLOCK)
            return bytes(
                self._try(lambda: self._files.cat_file(self._at(name), start=start, end=stop))
            )

        def write(file: IO[bytes]) -> None:
            first = block(0) if size else b""
            starts = range(len(first), size, _BLOCK)  # none where a server sends all in any case
            advance(file.write(first))
            waiting: deque[Future[bytes]] = deque()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for start in starts:
                    waiting.append(pool.submit(block, start))
                    if len(waiting) > _AT_ONCE:
                        advance(file.write(waiting.popleft().result()))
                while waiting:
                    advance(file.write(waiting.popleft().result()))
            if file.tell() != size:
                raise OSError(f"{name} has {file.tell():,} bytes instead of {size:,}")

        to.parent.mkdir(parents=True, exist_ok=True)
        write_whole(to, write)

    def send(self, path: Path, name: str) -> None:
        """Copy a file of this disk there."""
        self._try(lambda: self._files.put_file(str(path), self._at(name)))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            try:
                self._try(partial(self._files.rm_file, self._at(name)))
            except FileNotFoundError:
                continue

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _try(self, what: Callable[[], Any]) -> Any:
        return attempt(what, self.url)


def as_object(text: bytes | None) -> dict[str, Any] | None:
    """A JSON object; None for what is none."""
    try:
        content = None if text is None else json.loads(text)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


@contextlib.contextmanager
def shown(name: str, n_bytes: int, show: bool = True) -> Iterator[Callable[[int], None]]:
    """Progress of a long transfer, as something that is told the bytes that have come."""
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        before, done = done // _MIB, done + n
        progress.advance(done // _MIB - before)

    with Progress(name, n_bytes // _MIB, "MiB", show=show and n_bytes > _LONG) as progress:
        yield advance
