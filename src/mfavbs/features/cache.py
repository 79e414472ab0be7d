"""A cache of features that runs share, off unless asked for.

In: content hashes and one recipe. Out: features (v, t, d) float16 of the contents that any run has
encoded by this recipe, whatever its folder.

Nothing that goes wrong here ends a run: what the cache does not give is encoded.
"""

import contextlib
import hashlib
import math
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfavbs.features.cache_files import (
    cache_folder,
    connect,
    file_of,
    is_damage,
    make_file,
    remove_damaged,
    writing,
)
from mfavbs.images import LOOK

_DAY = 86400  # seconds: the last use is known to a day, so that looking up seldom writes
_NO_FILE = (0, 0)


class Cached(NamedTuple):
    """What the cache has of one content: its features (v, t, d) float16, its note and its look."""

    features: np.ndarray
    note: str | None
    look: np.ndarray | None = None


class FeatureCache:
    """The features of one recipe in a cache; or, without a path, no cache.

    A process may be given it, and then has a connection of its own.

    Parameters
    ----------
    path
        The file, or None.
    recipe
        All that decides an image's features beside the image.
    """

    def __init__(self, path: Path | None = None, recipe: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._recipe = dict(recipe or {})
        self._writes = path is not None
        self._reads = path is not None
        self._database: sqlite3.Connection | None = None
        self._opened: tuple[int, int, int] | None = None  # process, device, inode
        self._waiting: dict[str, Cached] = {}
        self._used: list[str] = []

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        asked: str | os.PathLike[str] | None,
        recipe: Mapping[str, Any],
        *,
        writes: bool = True,
    ) -> "Iterator[FeatureCache]":
        """The cache that was asked for, see :func:`mfavbs.embed`, until the block ends.

        Without ``writes`` it is read as it is, and no file is made.
        """
        folder = cache_folder(asked)
        cache = cls() if folder is None else cls(file_of(folder, recipe), recipe)
        with contextlib.closing(cache):
            if writes:
                cache._begin()
            cache._writes &= writes
            yield cache

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_database": None, "_opened": None}

    def find(self, content: str) -> bool:
        """Whether the cache seems to have this content; without a word where it cannot tell."""
        return bool(self._asked("SELECT 1 FROM entries WHERE hash = ?", content))

    def get(self, contents: Iterable[str]) -> dict[str, Cached]:
        """The features of these contents, as far as they are there and undamaged."""
        found = {}
        query = "SELECT shape, note, features, checksum, used < ? FROM entries WHERE hash = ?"
        for content in dict.fromkeys(contents):
            row = self._asked(query, time.time() - _DAY, content)
            cached = self._checked(content, *row[:4]) if row else self._waiting.get(content)
            if cached is not None:
                found[content] = cached
                self._used += [content] * bool(row and row[4])
        return found

    def _asked(self, query: str, *values: Any) -> tuple | None:
        """A row by its content, the last value; None where there is none or it cannot be read."""
        if not self._reads:
            return None
        content = bytes.fromhex(values[-1])
        try:
            return self._connection().execute(query, (*values[:-1], content)).fetchone()
        except sqlite3.OperationalError:  # as of a file that is locked for long: once is enough
            self._reads = False
        except (OSError, sqlite3.DatabaseError):
            pass
        return None

    def put(
        self,
        contents: Sequence[str],
        features: np.ndarray | None,
        notes: Mapping[Any, str | None],
        looks: np.ndarray | None = None,
    ) -> None:
        """Take in features (m, v, t, d) that were encoded, to be written by :meth:`flush`.

        Parameters
        ----------
        contents
            (m,) content hashes.
        features
            None where m is 0.
        notes
            What was wrong with the images that were read nevertheless, by content.
        looks
            (m,) of the type `mfavbs.images.LOOK`, where they are known.
        """
        if self._writes and features is not None:
            for row, content in enumerate(contents):
                look = None if looks is None else looks[row]
                self._waiting[content] = Cached(features[row], notes.get(content), look)

    def flush(self) -> None:
        """Write what was taken in and what was of use, as one transaction."""
        waiting, used, self._waiting, self._used = self._waiting, self._used, {}, []
        if not (self._writes and (waiting or used)):
            return
        try:
            self._made_again_if_damaged(lambda: self._write(waiting, used))
        except (OSError, sqlite3.Error) as error:
            self._writes = False
            self._warn("written", error, "what this run encodes is not kept there")

    def close(self) -> None:
        """End the connection of this process."""
        if self._database is not None:
            self._database.close()
        self._database = None

    def _begin(self) -> None:
        """Make the file where there is none, and again where it is damaged."""
        if self.path is None:
            return
        path = self.path
        try:
            self._made_again_if_damaged(lambda: make_file(path, self._recipe))
        except (OSError, sqlite3.Error) as error:
            self._reads = self._writes = False
            self._warn("used", error, "this run goes on without it")

    def _made_again_if_damaged(self, step: Callable[[], None]) -> None:
        assert self.path is not None
        before = _identity(self.path)
        try:
            step()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.close()
            if _identity(self.path) == before:  # else another process has made it again
                remove_damaged(self.path)
            make_file(self.path, self._recipe)
            step()

    def _warn(self, done: str, error: Exception, instead: str) -> None:
        assert self.path is not None
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        warnings.warn(
            f"The cache {self.path.parent} cannot be {done} ({why}): {instead}.", stacklevel=2
        )

    def _connection(self) -> sqlite3.Connection:
        """This process' connection to the file that has the name now."""
        assert self.path is not None
        now = (os.getpid(), *_identity(self.path))
        if now[1:] == _NO_FILE:
            raise FileNotFoundError(self.path)
        if self._database is None or self._opened != now:  # pruned away, or made again
            self.close()
            self._database, self._opened = connect(self.path), now
        return self._database

    def _write(self, waiting: Mapping[str, Cached], used: Sequence[str]) -> None:
        now = int(time.time())
        rows = [self._row(content, cached, now) for content, cached in waiting.items()]
        assert self.path is not None
        make_file(self.path, self._recipe)
        database = self._connection()
        with writing(database):
            database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
            database.executemany(
                "UPDATE entries SET used = ? WHERE hash = ?",
                [(now, bytes.fromhex(content)) for content in used],
            )

    def _row(self, content: str, cached: Cached, now: int) -> tuple:
        features = np.ascontiguousarray(cached.features, "<f2").tobytes()
        # The shape says where the features end.
        features += b"" if cached.look is None else cached.look.tobytes()
        shape = ",".join(map(str, cached.features.shape))
        note = (cached.note or "").encode("utf-8", "surrogatepass")
        checksum = self._checksum(content, shape.encode(), note, features)
        return bytes.fromhex(content), now, checksum, note, shape, features

    def _checked(
        self, content: str, shape: bytes, note: bytes, features: bytes, checksum: bytes
    ) -> Cached | None:
        """An entry, or None where it is not as it was written."""
        parts = (shape, note, features)
        if not all(isinstance(part, bytes) for part in parts):
            return None
        if self._checksum(content, *parts) != checksum:
            return None
        sizes = [int(size) for size in shape.split(b",")]
        end = 2 * math.prod(sizes)
        array = np.frombuffer(features[:end], "<f2").astype(np.float16).reshape(sizes)
        rest = features[end:]  # nothing in entries of an earlier version
        look = np.frombuffer(rest, LOOK)[0] if len(rest) == LOOK.itemsize else None
        return Cached(array, note.decode("utf-8", "surrogatepass") or None, look)

    def _checksum(self, content: str, *parts: bytes) -> bytes:
        assert self.path is not None
        key = self.path.name.encode()[:32]  # an entry of another recipe is none
        digest = hashlib.blake2b(content.encode(), digest_size=16, key=key)
        for part in parts:
            digest.update(b"%d " % len(part) + part)
        return digest.digest()


def _identity(path: Path) -> tuple[int, int]:
    """Which file has this name now."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _NO_FILE
    return stat.st_dev, stat.st_ino
