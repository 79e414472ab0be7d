"""The folder of a cache that runs share: one SQLite file for every recipe, what it holds, pruning.

In: a folder. Out: connections to files that are this user's alone, and their sizes.

A file is called by the digest of its recipe. SQLite keeps it whole when several processes write and
when one is killed; its rollback journal, unlike its write-ahead log, does so on network disks too.
"""

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mfavbs.errors import StoreError
from mfavbs.files import user_path

_VARIABLE = "MFAVBS_CACHE"
_NAME = re.compile(r"[0-9a-f]{32}\.mfavbs-features")
_SCHEMA = 1
_PATIENCE = 30.0  # seconds for another process to finish its transaction, which takes it less
_AT_ONCE = 500  # entries in one transaction of pruning: others may write in between
_USED = "coalesce(CAST(used AS INTEGER), 0)"  # a damaged one may be of any type
_PASSES = 5  # entries are as large as their file's bytes by their number, which is nearly so
_TABLES = """
CREATE TABLE IF NOT EXISTS recipe (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT);
CREATE TABLE IF NOT EXISTS entries (
    hash BLOB PRIMARY KEY, used INTEGER, checksum BLOB, note TEXT, shape TEXT, features BLOB
);
"""


class CacheFile(NamedTuple):
    """One file of a cache: the features of one encoder and recipe."""

    path: Path
    recipe: dict[str, Any] | None  # None: damaged
    n_entries: int
    n_bytes: int
    used: float  # seconds since 1970


def cache_folder(asked: str | os.PathLike[str] | None) -> Path | None:
    """The folder that was asked for, or None.

    ``auto`` is the operating system's place for caches; ``off`` is none, even where the environment
    variable ``MFAVBS_CACHE`` names one, which counts where nothing is asked for.
    """
    asked = os.environ.get(_VARIABLE) if asked is None else asked
    if not asked or asked == "off":
        return None
    if asked == "auto":
        import platformdirs

        return platformdirs.user_cache_path("mfavbs", appauthor=False) / "features"
    return user_path(asked)


def file_of(folder: Path, recipe: Mapping[str, Any]) -> Path:
    """The file for the features of one recipe."""
    text = json.dumps({"cache": _SCHEMA, **recipe}, sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return folder / f"{digest}.mfavbs-features"


def check_private(folder: Path, *files: Path) -> None:
    """Raise `PermissionError` for what others own, and for a folder that others may write in."""
    if not hasattr(os, "getuid"):
        return
    for path in (folder, *(file for file in files if file.exists())):
        if path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} is of another owner and not trusted")
    if folder.stat().st_mode & 0o022:
        raise PermissionError(f"others may write in {folder}: chmod 700 makes it yours alone")


def connect(path: Path) -> sqlite3.Connection:
    """Open a file that is there already; each statement is a transaction of its own."""
    check_private(path.parent, path)
    database = sqlite3.connect(
        path.absolute().as_uri() + "?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None
    )
    database.text_factory = bytes  # damaged text is no UTF-8
    return database


@contextlib.contextmanager
def writing(database: sqlite3.Connection) -> Iterator[None]:
    """A transaction, all or nothing of which is done."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def make_file(path: Path, recipe: Mapping[str, Any]) -> None:
    """Make the file where there is none.

    Raises
    ------
    sqlite3.DatabaseError
        What is there is damaged.
    sqlite3.OperationalError, OSError
        It cannot be made or read.
    """
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    check_private(path.parent, path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(connect(path)) as database:
        if _recipe_in(database) is None:
            database.execute("PRAGMA auto_vacuum = FULL")  # pruned, it shrinks without more room
            with writing(database):
                for statement in _TABLES.split(";")[:-1]:
                    database.execute(statement)
                row = json.dumps(dict(recipe), sort_keys=True)
                database.execute("INSERT OR IGNORE INTO recipe VALUES (1, ?)", (row,))
        if _recipe_in(database) != json.loads(json.dumps(dict(recipe))):
            raise sqlite3.DatabaseError("its recipe is another")


def remove_damaged(path: Path) -> None:
    """Remove a file and its journal, which would be taken for that of the file made next."""
    for name in (path, path.with_name(path.name + "-journal")):
        name.unlink(missing_ok=True)


def _recipe_in(database: sqlite3.Connection) -> dict[str, Any] | None:
    """What made the entries; None where the file is still empty."""
    if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
        return None
    database.execute("SELECT hash, used, checksum, note, shape, features FROM entries LIMIT 0")
    try:
        (text,) = database.execute("SELECT json FROM recipe").fetchone()
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("it has no recipe") from error


def is_damage(error: BaseException) -> bool:
    """Whether it is the file that is wrong, and not the disk, its room or somebody's rights."""
    if isinstance(error, sqlite3.OperationalError):
        return str(error).startswith("no such")  # table or column
    return type(error) in (sqlite3.DatabaseError, sqlite3.IntegrityError)


def list_cache(folder: Path) -> list[CacheFile]:
    """What a cache holds, the largest file first.

    Raises
    ------
    StoreError
        The folder or a file in it is another owner's, or cannot be read.
    """
    found = []
    with _explained(folder):
        if folder.exists():
            check_private(folder)
            paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
            found = [_described(path) for path in paths]
    return sorted(found, key=lambda file: (-file.n_bytes, file.path))


def _described(path: Path) -> CacheFile:
    stat = path.stat()
    try:
        with contextlib.closing(connect(path)) as database:
            recipe = _recipe_in(database)
            if recipe is None:
                raise sqlite3.DatabaseError("it was begun and left")
            n, used = database.execute(f"SELECT count(*), max({_USED}) FROM entries").fetchone()
            return CacheFile(path, recipe, n, stat.st_size, used or stat.st_mtime)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return CacheFile(path, None, 0, stat.st_size, stat.st_mtime)


def prune_cache(
    folder: Path, *, max_age: float | None = None, max_size: float | None = None
) -> None:
    """Remove entries, those first that have been of use the longest ago; and damaged files.

    Parameters
    ----------
    folder
        The cache. Others may go on using it.
    max_age
        Days since an entry was last of use.
    max_size
        Bytes that may be left in all.

    Raises
    ------
    StoreError
        The folder or a file in it is another owner's, or cannot be written.
    """
    oldest = 0.0 if max_age is None else time.time() - 86400 * max_age
    with _explained(folder):
        for _ in range(_PASSES):
            gone = _too_many(list_cache(folder), oldest, max_size)
            for path, rows in gone.items():
                with _removed_if_damaged(path):
                    _remove(path, rows)
            if not gone:
                break


def _too_many(
    files: Sequence[CacheFile], oldest: float, max_size: float | None
) -> dict[Path, list[tuple[int, int]]]:
    """Row and last use of each entry that is to go, by file; also files without any."""
    entries: list[tuple[int, float, Path, int]] = []
    gone: dict[Path, list[tuple[int, int]]] = {}
    for file in files:
        with _removed_if_damaged(file.path):
            found = _entries(file)
            entries += found
            gone |= {} if found else {file.path: []}
    left = 0.0
    for used, n_bytes, path, row in sorted(entries, reverse=True):
        left += n_bytes
        if used < oldest or (max_size is not None and left > max_size):
            gone.setdefault(path, []).append((row, used))
    return gone


def _entries(file: CacheFile) -> list[tuple[int, float, Path, int]]:
    """Last use, share of the file's bytes, file and row of each entry."""
    if file.recipe is None:
        raise sqlite3.DatabaseError("damaged")
    with contextlib.closing(connect(file.path)) as database:
        rows = database.execute(f"SELECT {_USED}, rowid FROM entries").fetchall()
    return [(used, file.n_bytes / len(rows), file.path, row) for used, row in rows]


def _remove(path: Path, rows: list[tuple[int, int]]) -> None:
    """Remove entries, unless they have been of use meanwhile."""
    try:
        _delete(path, rows, journal="DELETE")
    except sqlite3.OperationalError:  # the disk has no room for a journal: a kill may cost the file
        _delete(path, rows, journal="MEMORY")


def _delete(path: Path, rows: list[tuple[int, int]], journal: str) -> None:
    with contextlib.closing(connect(path)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        for i in range(0, len(rows), _AT_ONCE):
            with writing(database):
                database.executemany(
                    f"DELETE FROM entries WHERE rowid = ? AND {_USED} = ?", rows[i : i + _AT_ONCE]
                )
        database.execute("BEGIN EXCLUSIVE")  # nobody writes: there is no journal
        if not database.execute("SELECT 1 FROM entries").fetchone():
            with contextlib.suppress(PermissionError):  # on Windows an open file stays
                path.unlink()
        database.execute("ROLLBACK")


@contextlib.contextmanager
def _removed_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        remove_damaged(path)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the cache {folder} cannot be used: {error}; mend that, or give another cache="
        ) from error
