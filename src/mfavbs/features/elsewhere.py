"""A feature store that lies at a URL, in a bucket say, and its copy on this machine.

In: a URL. Out: the folder of its copy, as new as what lies there.

Nothing in a store changes under its name but ``store.json``, which is written last. So what a copy
lacks is fetched, and at every moment the URL holds a whole store.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mfavbs.errors import StoreError
from mfavbs.features.cache_files import cache_folder, check_private
from mfavbs.features.pieces import PIECES
from mfavbs.features.state import SEGMENTS, TABLES, tidy
from mfavbs.features.transfer import Place, as_object, shown
from mfavbs.files import read_json, user_path, write_json, write_whole
from mfavbs.locking import alone_in
from mfavbs.urls import file_system, is_url, without_secrets

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
_NEEDED = ("features.npy", "hashes.txt", "manifest.parquet")  # of those named
_TRIES = 5  # to read what is being replaced
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
    if (path := path_of(url)) is not None:
        return path
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


def path_of(url: str) -> Path | None:
    """The path that a URL of this machine is, as fsspec reads it; None of any other URL."""
    return Path(file_system(url)[1]) if urlsplit(url).scheme in ("file", "local") else None


def location_of(folder: Path) -> str:
    """Where a store is: the URL that a folder is the copy of, else its own path."""
    record = record_of(folder)
    return str(folder) if record is None else str(record["url"])


def record_of(folder: Path) -> dict[str, Any] | None:
    """Of a copy: ``url``, and ``synced``, the digest of the store.json that it was made of."""
    return read_json(folder.parent / RECORD) if folder.name == STORE else None


def is_store_at(url: str) -> bool:
    """Whether a feature store lies at a URL, finished or not; False where that cannot be told."""
    place = Place(url.rstrip("/"))
    try:
        found = (as_object(place.read(name)) for name in ("store.json", "progress.json"))
        return any({"schema", "encoder", "weights_hash"} <= (one or {}).keys() for one in found)
    except OSError:  # who opens it as images is told why
        return False


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
            f"{location_of(folder)} was not written to its end by this machine; unless it is still "
            "at work, give the same `mfavbs embed` again, which goes on with it"
        )


def check_writable(place: str | os.PathLike[str]) -> None:
    """Refuse a URL where nothing can be written."""
    if urlsplit(str(place)).scheme in ("http", "https"):
        shown_url = without_secrets(str(place))
        raise StoreError(f"{shown_url} can be read, not written; give a folder, s3:// or gs://")


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


def digest_of(text: bytes | None) -> str | None:
    return None if text is None else hashlib.blake2b(text, digest_size=16).hexdigest()


def note(place: Place, folder: Path, text: bytes | None, recipe: str | None) -> None:
    about = {"url": place.url, "synced": digest_of(text), "recipe": recipe}
    write_json(folder.parent / RECORD, about)


def recipe_of(state: Mapping[str, Any] | None) -> str | None:
    """Digest of all that decides an image's features, in a store.json or progress.json."""
    if state is None:
        return None
    recipe = {name: value for name, value in state.items() if name not in _STATE}
    return digest_of(json.dumps(recipe, sort_keys=True).encode())


def _bring_up(place: Place, folder: Path) -> None:
    """:func:`update` by one process at a time, where there is anything to do."""
    with explained(place.url):
        if not _is_current(folder, place.read("store.json")):
            with alone_in(folder, StoreError, wait=_PATIENCE):
                update(place, folder)


def _is_current(folder: Path, text: bytes | None) -> bool:
    """Whether the copy was made of this store.json, or has gone on from it."""
    record, whole = record_of(folder), text is None or (folder / "store.json").exists()
    return record is not None and record["synced"] == digest_of(text) and whole


def update(place: Place, folder: Path) -> None:
    """Make the copy what lies at the URL, unless that is still what the copy was made of."""
    for _ in range(_TRIES):
        text = place.read("store.json")
        if _is_current(folder, text):
            return
        there = as_object(text)
        if text is not None and there is None:
            raise StoreError(f"{place.url} is damaged: its store.json is no JSON object")
        recipe = recipe_of(there)
        if _held(folder) not in (None, recipe):
            _clear(folder)
        note(place, folder, None, recipe)  # of what a kill leaves
        names = ["progress.json"] if there is None else named(there, place.url)
        try:
            fetch(place, folder, names)
        except FileNotFoundError:  # another process replaces it
            continue
        if place.read("store.json") == text:
            break
    else:
        raise OSError("it changes while it is read")
    missing = [n for n in names if n.endswith(_NEEDED) and not (folder / n).exists()]
    if missing:
        raise StoreError(f"{place.url} is damaged: {missing[0]} is not there; make it again")
    if text is not None:
        whole = text
        write_whole(folder / "store.json", lambda file: file.write(whole))
        note(place, folder, text, recipe)
        if not (folder / PIECES).exists():
            tidy(folder)  # of what is superseded


def _held(folder: Path) -> str | None:
    """Recipe of what the copy holds, finished, begun, or fetched in part."""
    here = read_json(folder / "store.json") or read_json(folder / "progress.json")
    return recipe_of(here) if here else (record_of(folder) or {}).get("recipe")


def _clear(folder: Path) -> None:
    """Leave a copy empty, of a store that is another now."""
    (folder / "store.json").unlink(missing_ok=True)
    (folder / "asked.json").unlink(missing_ok=True)
    tidy(folder)


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
