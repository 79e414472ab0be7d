"""What is written into the copy of a store at a URL lies there in the end, too.

In: the folder of a copy, while a store is made in it. Out: files at the URL: the pieces as they
come, so that another machine goes on with them, at the end all else, and ``store.json`` last.
"""

import contextlib
import json
import os
import socket
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mfavbs.errors import SourceError, StoreError
from mfavbs.features.elsewhere import (
    MADE,
    digest_of,
    explained,
    fetch,
    location_of,
    named,
    note,
    record_of,
    size_of,
    update,
)
from mfavbs.features.pieces import PIECES
from mfavbs.features.state import tidy
from mfavbs.features.transfer import Place, as_object, shown
from mfavbs.files import read_json

_WRITING = ".mfavbs.writing"  # at the URL: who is at work there
_SECONDS = 5.0  # between two looks at what there is to send


@contextlib.contextmanager
def in_step(folder: Path, *, verbose: bool = False) -> Iterator[Callable[[], None]]:
    """Within it, what is written into the copy of a store at a URL is sent there.

    To be called with the folder locked; gives what is to be called before a new state is written
    into it. For a store that is no copy nothing is done.

    Raises
    ------
    StoreError
        The URL cannot be written, or another process has written there meanwhile.
    """
    if record_of(folder) is None:
        yield lambda: None
        return
    place = Place(location_of(folder))
    with explained(place.url):
        update(place, folder)
        names = place.names()
        _check_free(place.url, names)
        _fetch_begun(place, folder, names)
        _say_writing(place)
    try:
        with _sending_pieces(place, folder, names):
            yield lambda: _check_as_it_was(place, folder)
        with explained(place.url):
            _send(place, folder, verbose)
    except SourceError:  # nothing was readable: leave nothing behind
        with contextlib.suppress(OSError):
            _remove_all_but(place, as_object(place.read("store.json")))
        raise
    finally:
        with contextlib.suppress(OSError):
            place.remove([_WRITING])


def _check_free(url: str, names: Mapping[str, int]) -> None:
    """Refuse to write where that is not possible, and beside what is no store."""
    if urlsplit(url).scheme in ("http", "https"):
        raise StoreError(f"{url} can be read, not written; give a folder, or s3:// or gs://")
    begun = {"store.json", "progress.json"} & names.keys()
    others = [name for name in names if name != _WRITING and not MADE.fullmatch(name)]
    if others and not begun:
        raise StoreError(
            f"{url} exists and is not a feature store: {others[0]} lies there; choose another "
            "place for it"
        )


def _say_writing(place: Place) -> None:
    """Say there who is at work; warn of who has said so and not that it ended.

    It is no lock, as none there would end with its process. It also tells at once, and not after
    hours of work, whether anything can be written.
    """
    other = as_object(place.read(_WRITING))
    if other is not None:
        warnings.warn(
            f"{other.get('host')} has begun to write to {place.url} on {other.get('since')} and "
            "did not say that it ended. If it is still at work, leave the store to one of you.",
            stacklevel=5,
        )
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    about = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "writing"
        path.write_text(json.dumps(about))
        place.send(path, _WRITING)


def _fetch_begun(place: Place, folder: Path, names: Mapping[str, int]) -> None:
    """Fetch what another machine has begun and not finished."""
    if "progress.json" in names and not (folder / "store.json").exists():
        there = as_object(place.read("progress.json"))
        if there is not None and there != read_json(folder / "progress.json"):
            tidy(folder)  # of another recipe
            fetch(place, folder, ["progress.json"])
    own = {path.name: path.stat().st_size for path in (folder / PIECES).glob("*.safetensors")}
    free = 1 + max((int(name.partition(".")[0]) for name in own), default=-1)
    for name, size in sorted(names.items()):
        piece = name.removeprefix(f"{PIECES}/")
        if name == piece or not MADE.fullmatch(name) or own.get(piece) == size:
            continue
        if piece in own:  # both have begun
            piece, free = f"{free:08d}.safetensors", free + 1
        place.fetch(name, folder / PIECES / piece, size, lambda _: None)


@contextlib.contextmanager
def _sending_pieces(place: Place, folder: Path, names: Mapping[str, int]) -> Iterator[None]:
    """Send progress.json and the pieces as they come, by a thread.

    What cannot be sent now is tried again later: only the end has to go well.
    """
    over, sent = threading.Event(), dict(names)

    def send() -> None:
        begun = [folder / "progress.json", *sorted((folder / PIECES).glob("*.safetensors"))]
        for path in begun:
            name, size = path.relative_to(folder).as_posix(), size_of(path)
            if size is not None and sent.get(name) != size:
                with contextlib.suppress(OSError):  # it is also removed here, at the end
                    place.send(path, name)
                    sent[name] = size

    def go_on() -> None:
        while not over.wait(_SECONDS):
            send()

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        send()  # what an interrupted call has made


def _check_as_it_was(place: Place, folder: Path) -> None:
    """Refuse to replace what another process has written since the copy was brought up."""
    with explained(place.url):
        there, record = place.read("store.json"), record_of(folder)
    assert record is not None, "it is a copy"
    if (None if there is None else digest_of(there)) != record["synced"]:
        raise StoreError(
            f"another process has written to {place.url} meanwhile; give the same command again: "
            "what was encoded is kept"
        )


def _send(place: Place, folder: Path, verbose: bool) -> None:
    """Make what lies at the URL what the copy is."""
    _check_as_it_was(place, folder)
    text = (folder / "store.json").read_bytes()
    state, names = as_object(text), place.names()
    assert state is not None, "it was written just now"
    sizes = {name: size_of(folder / name) for name in named(state, place.url)}
    missing = {n: size for n, size in sizes.items() if size is not None and names.get(n) != size}
    with shown("sending", sum(missing.values()), verbose) as advance:
        for name, size in missing.items():
            place.send(folder / name, name)
            advance(size)
    record = record_of(folder)
    if record is None or record["synced"] != digest_of(text):
        place.send(folder / "store.json", "store.json")
        note(place, folder, text)
    _remove_all_but(place, state)


def _remove_all_but(place: Place, state: Mapping[str, Any] | None) -> None:
    """Remove what a finished store does not name, of all that mfavbs makes."""
    keep = set(named(state, place.url)) if state else set()
    place.remove([name for name in place.names() if MADE.fullmatch(name) and name not in keep])
