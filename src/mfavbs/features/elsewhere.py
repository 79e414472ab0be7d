"""A feature store that lies at a URL, in a bucket say, and its copy on this machine.

In: a URL. Out: the folder of its copy, as new as what lies there.

Nothing in a store changes under its name but ``store.json``, which is written last. So what a copy
lacks is fetched, and at every moment the URL holds a whole store.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mfavbs.errors import SourceError, StoreError
from mfavbs.features.cache_files import cache_folder, check_private
from mfavbs.features.pieces import PIECES
from mfavbs.features.state import SEGMENTS, TABLES, tidy
from mfavbs.features.transfer import Place, as_object, shown
from mfavbs.files import read_json, user_path, write_json, write_whole
from mfavbs.locking import alone_in
from mfavbs.urls import is_url, without_secrets

COPIES = "stores"  # in the cache
RECORD = "elsewhere.json"  # beside a copy: of what URL it is, as of when
STORE = "store"  # a copy
_NAME = re.compile(r"[0-9a-f]{16}")  # of a segment, and of tables
_OF_A_SEGMENT = ("features.npy", "hashes.txt", "looks.npy")
_OF_TABLES = ("manifest.parquet", "failed.parquet", "failures.csv", "warnings.csv", "skipped.csv")
_OF_SCHEMA_1 = ("features.npy", "manifest.parquet", "failures.csv")
# All that may be removed there.
MADE = re.compile(
    rf"progress\.json|{PIECES}/\d{{8}}\.safetensors"
    rf"|{SEGMENTS}/{_NAME.pattern}/({'|'.join(map(re.escape, _OF_A_SEGMENT))})"
    rf"|{TABLES}/{_NAME.pattern}/({'|'.join(map(re.escape, _OF_TABLES))})"
)
_STATE = ("state", "number", "segments", "tables", "source")  # the rest is the recipe
_PATIENCE = 600.0  # seconds that another process of this machine may take to fetch the same store


def store_folder(place: str | os.PathLike[str]) -> Path:
    """The folder in which a store is read and written: of one at a URL its copy, brought up.

    Raises
    ------
    StoreError
        The URL cannot be read, or its copy not be written.
    """
    if not is_url(str(place)):
        return user_path(place)
    url = str(place).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme in ("file", "local"):
        return user_path(parts.path)
    _check(url)
    cache = cache_folder(None) or cache_folder("auto")
    assert cache is not None, "auto is always somewhere"
    folder = cache / COPIES / hashlib.blake2b(url.encode(), digest_size=16).hexdigest() / STORE
    try:
        for made in (cache, cache / COPIES, folder.parent, folder):
            made.mkdir(parents=True, mode=0o700, exist_ok=True)
        check_private(folder.parent)
        _bring_up(Place(url), folder)
        os.utime(folder.parent / RECORD)  # it is of use now
    except OSError as error:
        raise StoreError(
            f"{folder}, the copy of {url}, cannot be written: {error.strerror or error}; make "
            "room, or name another folder by the environment variable MFAVBS_CACHE"
        ) from error
    return folder


def location_of(folder: Path) -> str:
    """Where a store is: the URL that a folder is the copy of, else its own path."""
    record = record_of(folder)
    return str(folder) if record is None else str(record["url"])


def record_of(folder: Path) -> dict[str, Any] | None:
    """Of a copy: ``url``, and ``synced``, the digest of the store.json that it was made of."""
    return read_json(folder.parent / RECORD) if folder.name == STORE else None


def is_store_at(url: str) -> bool:
    """Whether a feature store lies at a URL, finished or not.

    Raises
    ------
    SourceError
        The URL cannot be read.
    """
    place = Place(url.rstrip("/"))
    try:
        found = (as_object(place.read(name)) for name in ("store.json", "progress.json"))
        return any({"schema", "encoder", "weights_hash"} <= (one or {}).keys() for one in found)
    except PermissionError:  # buckets that do not tell what is missing
        return False
    except OSError as error:
        raise SourceError(f"{without_secrets(url)} cannot be read: {error}") from error


def is_sent(folder: Path) -> bool:
    """Whether all that a copy holds lies at its URL."""
    record, here = record_of(folder), folder / "store.json"
    if record is None:
        return True
    if not here.exists():
        return not (folder / PIECES).exists()
    return digest_of(here.read_bytes()) == record["synced"]


def check_sent(folder: Path) -> None:
    """Refuse to read a copy that is ahead of its URL."""
    if (folder / "store.json").exists() and not is_sent(folder):
        raise StoreError(
            f"{location_of(folder)} was not written to its end; give the same `mfavbs embed` "
            "again on this machine, which goes on with it"
        )


def _check(url: str) -> None:
    if without_secrets(url) != url:
        raise StoreError(
            "expected the URL of a feature store without password or key in it, got "
            f"{without_secrets(url)} and more; give credentials by the environment"
        )
    if "::" in urlsplit(url).scheme or "::" in url.partition("//")[0]:
        raise StoreError(f"expected the URL of a feature store, got a chain of them, {url}")


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the feature store {url} cannot be reached: {error}; what is finished is kept: the "
            "same command goes on with it"
        ) from error


def digest_of(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def note(place: Place, folder: Path, text: bytes | None) -> None:
    synced = None if text is None else digest_of(text)
    write_json(folder.parent / RECORD, {"url": place.url, "synced": synced})


def _bring_up(place: Place, folder: Path) -> None:
    """:func:`update` by one process at a time, where there is anything to do."""
    with explained(place.url):
        text = place.read("store.json")
    record = record_of(folder)
    if record is None or record["synced"] != (None if text is None else digest_of(text)):
        with alone_in(folder, StoreError, wait=_PATIENCE), explained(place.url):
            update(place, folder)


def update(place: Place, folder: Path) -> None:
    """Make the copy what lies at the URL, unless that is still what the copy was made of."""
    text = place.read("store.json")
    record, there = record_of(folder), as_object(text)
    if record is not None and record["synced"] == (None if text is None else digest_of(text)):
        return
    here = read_json(folder / "store.json")
    if here is not None and (there is None or _recipe(here) != _recipe(there)):
        _clear(folder)
    if text is None:
        fetch(place, folder, ["progress.json"])
    elif there is None:
        raise StoreError(f"{place.url} is damaged: its store.json is no JSON object")
    else:
        whole = text
        fetch(place, folder, named(there, place.url))
        write_whole(folder / "store.json", lambda file: file.write(whole))
    note(place, folder, text)


def _clear(folder: Path) -> None:
    """Leave a copy empty, of a store that is another now."""
    (folder / "store.json").unlink(missing_ok=True)
    (folder / "asked.json").unlink(missing_ok=True)
    tidy(folder)


def _recipe(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in _STATE}


def named(state: Mapping[str, Any], url: str) -> list[str]:
    """Names of the files that a store.json speaks of, whether all are there or not."""
    if state.get("schema") == 1:
        return list(_OF_SCHEMA_1)
    segments, tables = state.get("segments", []), state.get("tables", "")
    names = [*segments, tables] if isinstance(segments, list) else [None]
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise StoreError(f"{url} is damaged, or of a later version of mfavbs, which can read it")
    of_segments = [f"{SEGMENTS}/{name}/{file}" for name in segments for file in _OF_A_SEGMENT]
    return of_segments + [f"{TABLES}/{tables}/{file}" for file in _OF_TABLES]


def fetch(place: Place, folder: Path, names: Sequence[str]) -> None:
    """Fetch those of the files that the copy has not."""
    sizes = {name: place.size(name) for name in names}
    missing = {
        name: size
        for name, size in sizes.items()
        if size is not None and size_of(folder / name) != size
    }
    free = shutil.disk_usage(folder).free
    if sum(missing.values()) > free:
        raise StoreError(
            f"the copy of {place.url} needs {sum(missing.values()) / 1e9:,.1f} GB in {folder}, and "
            f"{free / 1e9:,.1f} are free; name a folder on a larger disk by the environment "
            "variable MFAVBS_CACHE"
        )
    with shown("fetching", sum(missing.values())) as advance:
        for name, size in missing.items():
            place.fetch(name, folder / name, size, advance)


def size_of(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
