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

from mfavbs.errors import SourceError, StoreError
from mfavbs.features.elsewhere import (
    MADE,
    check_writable,
    digest_of,
    explained,
    fetch,
    location_of,
    named,
    note,
    recipe_of,
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
def in_step(
    folder: Path, *, verbose: bool = False, prune: bool = False
) -> Iterator[Callable[[], object]]:
    """Within it, what is written into the copy of a store at a URL is sent there.

    To be called with the folder locked; gives what is to be called before a new state is written
    into it. For a store that is no copy nothing is done. ``prune`` removes at the URL also what
    killed calls have left.

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
        pieces = _fetch_begun(place, folder, names)  # there, to be removed at the end
        mark = _say_writing(place)
    try:
        with _sending_pieces(place, folder, names, pieces):
            yield lambda: _check_as_it_was(place, folder)
        with explained(place.url):
            _send(place, folder, pieces, verbose, prune)
    except SourceError:  # nothing was readable: leave nothing behind
        with contextlib.suppress(OSError):
            place.remove(pieces)
        raise
    finally:
        with contextlib.suppress(OSError):
            if place.read(_WRITING) == mark:
                place.remove([_WRITING])


def _check_free(url: str, names: Mapping[str, int]) -> None:
    """Refuse to write where that is not possible, and beside what is no store."""
    check_writable(url)
    begun = {"store.json", "progress.json"} & names.keys()
    others = [name for name in names if name != _WRITING and not MADE.fullmatch(name)]
    if others and not begun:
        raise StoreError(
            f"{url} exists and is not a feature store: {others[0]} lies there; choose another "
            "place for it"
        )


def _say_writing(place: Place) -> bytes:
    """Say there, in the words given back, who is at work; warn of others who have not ended.

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
    mark = json.dumps(about).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "writing"
        path.write_bytes(mark)
        place.send(path, _WRITING)
    return mark


def _fetch_begun(place: Place, folder: Path, names: Mapping[str, int]) -> set[str]:
    """Fetch what another machine has begun and not finished; names of its pieces there."""
    if "progress.json" in names and not (folder / "store.json").exists():
        there, here = as_object(place.read("progress.json")), read_json(folder / "progress.json")
        if there is not None and recipe_of(there) != recipe_of(here):
            tidy(folder)  # of another recipe
            fetch(place, folder, ["progress.json"])
    own = {path.name: path.stat().st_size for path in (folder / PIECES).glob("*.safetensors")}
    free = 1 + max((int(name.partition(".")[0]) for name in own), default=-1)
    pieces = {name for name in names if MADE.fullmatch(name) and name.startswith(f"{PIECES}/")}
    for name in sorted(pieces):
        piece, size = name.removeprefix(f"{PIECES}/"), names[name]
        if own.get(piece) == size:
            continue
        if piece in own:  # both have begun
            piece, free = f"{free:08d}.safetensors", free + 1
        place.fetch(name, folder / PIECES / piece, size, lambda _: None)
    return pieces


@contextlib.contextmanager
def _sending_pieces(
    place: Place, folder: Path, names: Mapping[str, int], pieces: set[str]
) -> Iterator[None]:
    """Send progress.json and the pieces as they come, by a thread; note their names in ``pieces``.

    What cannot be sent now is tried again later: only the end has to go well.
    """
    over, sent = threading.Event(), dict(names)

    def send() -> None:
        # An error ends the round: no piece comes before its progress.json. The end of the work
        # removes them here.
        with contextlib.suppress(OSError):
            begun = [folder / "progress.json", *sorted((folder / PIECES).glob("*.safetensors"))]
            for path in begun:
                name, size = path.relative_to(folder).as_posix(), size_of(path)
                if size is not None and sent.get(name) != size:
                    pieces.add(name)
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


def _check_as_it_was(place: Place, folder: Path) -> bytes | None:
    """Its store.json; refuses what another process has written since the copy was brought up."""
    with explained(place.url):
        there, record = place.read("store.json"), record_of(folder)
    assert record is not None, "it is a copy"
    if digest_of(there) != record["synced"]:
        raise StoreError(
            f"another process has written to {place.url} meanwhile, and that stays; give the same "
            "command again, which goes on from there"
        )
    return there


def _send(place: Place, folder: Path, pieces: set[str], verbose: bool, prune: bool) -> None:
    """Make what lies at the URL what the copy is."""
    there = _check_as_it_was(place, folder)
    text = (folder / "store.json").read_bytes()
    state, former, names = as_object(text), as_object(there), place.names()
    assert state is not None, "it was written just now"
    sizes = {name: size_of(folder / name) for name in named(state, place.url)}
    missing = {n: size for n, size in sizes.items() if size is not None and names.get(n) != size}
    with shown("sending", sum(missing.values()), verbose) as advance:
        for name, size in missing.items():
            place.send(folder / name, name)
            advance(size)
    gone = set(pieces)
    if text != there:
        _check_as_it_was(place, folder)  # sending may take long
        place.send(folder / "store.json", "store.json")
        note(place, folder, text, recipe_of(state))
        gone |= {"progress.json", *(named(former, place.url) if former else ())}
    if prune:
        gone |= {name for name in names if MADE.fullmatch(name)}
    place.remove(sorted((gone & (names.keys() | pieces)) - sizes.keys()))
