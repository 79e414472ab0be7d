"""A folder of files that this program made, kept in step with what should be in it.

In: relative paths and what each is to be, an image or bytes. Out: the folder, with a list of what
was made, by which a second call knows its own files from those of others.
"""

import contextlib
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError, RunError, StoreError
from mfavbs.files import PARTIAL, read_json, write_json
from mfavbs.images import Images
from mfavbs.locking import LOCK, alone_in
from mfavbs.progress import Progress

HOW = ("auto", "hardlink", "symlink", "copy")
_LIST = ".mfavbs-export.json"


@dataclass(frozen=True)
class Item:
    """What a file is to be: image ``row`` of ``images``, known as ``key``; or ``content``, bytes or
    what makes them of the folder. A row of -1 is an image that is not there any more."""

    images: Images | None = None
    row: int = -1
    key: str = ""
    content: bytes | Callable[[Path], bytes] | None = None


class Placed(NamedTuple):
    """The folder; how many files are new, as they were, and removed; (path, reason) of those that
    could not be had; and files of ours that somebody has changed, which were left alone."""

    folder: Path
    n_new: int
    n_kept: int
    n_removed: int
    missing: list[tuple[str, str]]
    changed: list[str]


def place(
    folder: Path, kind: str, items: Mapping[str, Item], how: str, *, verbose: bool = True
) -> Placed:
    """Bring a folder in step with ``items``.

    Parameters
    ----------
    folder
        New, empty, or of an earlier call.
    kind
        What is in it, for the list.
    items
        By POSIX path relative to the folder, of names that every system takes.
    how
        One of `HOW`, for images that are files.
    verbose
        Show progress on stderr.

    Raises
    ------
    RunError
        It holds files of others, where these would have to go or at all, or cannot be written. In
        the first case nothing was touched.
    """
    folder = Path(os.path.abspath(folder))
    _check_folder(folder)
    try:
        with alone_in(folder):
            known = _listed(folder)
            _check_free(folder, items, known)
            return _place(folder, kind, items, known, how, verbose)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}. The same command goes on "
            "from there."
        ) from error


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give a folder as out=")
    ours = {LOCK, _LIST, _LIST + PARTIAL}
    if folder.is_dir() and not (folder / _LIST).exists():
        others = sorted({path.name for path in folder.iterdir()} - ours)
        if others:
            raise RunError(
                f"{folder} holds files that no export made, {others[0]!r} among them, so nothing "
                "is written into it. Give a new or an empty folder as out="
            )


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """What an earlier call has made here, by relative path."""
    try:
        files = (read_json(folder / _LIST) or {}).get("files", {})
    except StoreError as error:
        raise RunError(
            f"{folder / _LIST}, the list of what was exported, is damaged ({error.__cause__}); "
            "give another out="
        ) from error
    # It is a file like any other: what it says must not lead out of the folder.
    return {name: about for name, about in files.items() if _is_inside(name)}


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not os.path.isabs(name) and "\\" not in name and not {"", ".", ".."} & {*parts}


def _check_free(folder: Path, items: Mapping[str, Item], known: Mapping[str, Any]) -> None:
    taken = [name for name in items if name not in known and os.path.lexists(folder / name)]
    # A link in place of a folder of ours would lead elsewhere.
    parents = {name.rpartition("/")[0] for name in (*items, *known)} - {""}
    taken += [name for name in parents if (folder / name).is_symlink()]
    if taken:
        raise RunError(
            f"{folder} holds {len(taken):,} files of others where exported ones would go, "
            f"{min(taken)!r} for one; nothing was written. Move them, or give another out="
        )


def _place(
    folder: Path,
    kind: str,
    items: Mapping[str, Item],
    known: dict[str, dict[str, Any]],
    how: str,
    verbose: bool,
) -> Placed:
    # Written before anything is made, so that after a kill all of it is known as ours.
    write_json(folder / _LIST, _list(kind, {name: {} for name in items} | known))
    made: dict[str, dict[str, Any]] = {}
    missing: list[tuple[str, str]] = []
    gone = sorted(known.keys() - items.keys())
    changed = [name for name in gone if not _is_ours(folder / name, known[name])]
    n_removed = sum(_remove(folder, name) for name in gone if name not in changed)
    n_kept = 0
    order = sorted(items, key=lambda name: (items[name].row, name))  # one pass over a tar
    with Progress("Exporting", len(order), "files", show=verbose) as progress:
        for name in order:
            before = known.get(name)
            if before and not _is_ours(folder / name, before):
                changed.append(name)
                made[name], n_kept = before, n_kept + 1
            else:
                try:
                    made[name] = _updated(items[name], folder, name, before, how)
                    n_kept += made[name] is before
                except ImageError as error:
                    missing.append((items[name].key, str(error)))
                    if before and os.path.lexists(folder / name):  # it is still an image of the run
                        made[name], n_kept = before, n_kept + 1
            progress.advance(1)
    write_json(folder / _LIST, _list(kind, made))
    return Placed(folder, len(made) - n_kept, n_kept, n_removed, missing, changed)


def _updated(
    item: Item, folder: Path, name: str, before: dict[str, Any] | None, how: str
) -> dict[str, Any]:
    """Make a file if it is not there as it should be; what the list is to say of it."""
    path, wanted = folder / name, _wanted(item, how, folder)
    if before and before.get("of") == wanted and os.path.lexists(path):
        return before
    path.parent.mkdir(parents=True, exist_ok=True)
    _make(item, path, how, folder)
    return {"of": wanted, "is": _state(path)}


def _list(kind: str, files: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "kind": kind, "files": dict(sorted(files.items()))}


def _wanted(item: Item, how: str, folder: Path) -> list[Any]:
    """What a file is made of, by which it is seen whether it has to be made again."""
    if item.content is not None:
        return ["content", _digest(_content(item, folder))]
    if item.images is None or item.row < 0:
        raise ImageError("not among the images any more")
    size, modified = item.images.stat(item.row)
    if size < 0:
        raise ImageError("the file is not there")
    return [how, item.key, item.images.file(item.row), size, modified]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _content(item: Item, folder: Path) -> bytes:
    return item.content(folder) if callable(item.content) else item.content or b""


def _state(path: Path) -> list[Any]:
    found = os.lstat(path)
    return [found.st_size, found.st_mtime_ns, os.readlink(path) if path.is_symlink() else None]


def _is_ours(path: Path, about: Mapping[str, Any]) -> bool:
    """Whether a file is as this program left it; one that is gone is nobody's."""
    if not os.path.lexists(path):
        return True
    if "is" not in about:  # made by a call that was cut off
        return True
    if _state(path) == about["is"]:
        return True
    # A hard link that was changed together with the image, which keeps it.
    how, *of = about["of"]
    source = str(of[1]) if how in ("auto", "hardlink") and of[1] else ""
    return os.path.exists(source) and os.path.samefile(source, path)


def _remove(folder: Path, name: str) -> bool:
    path = folder / name
    there = os.path.lexists(path)
    for each in (path, path.with_name(path.name + PARTIAL)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each)
    for parent in path.relative_to(folder).parents[:-1]:
        with contextlib.suppress(OSError):  # there are others in it
            (folder / parent).rmdir()
    return there


def _make(item: Item, path: Path, how: str, folder: Path) -> None:
    """Make one file under another name first, so that it is never there by half."""
    partial = path.with_name(path.name + PARTIAL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    source = None if item.images is None else item.images.file(item.row)
    if item.content is not None or source is None:
        partial.write_bytes(_content(item, folder) if item.content is not None else _bytes(item))
    elif how == "symlink":
        os.symlink(source, partial)
    else:
        _link_or_copy(Path(source), partial, how)
    os.replace(partial, path)
    with contextlib.suppress(FileNotFoundError):  # of two names for one file, replace removes none
        os.unlink(partial)


def _link_or_copy(source: Path, partial: Path, how: str) -> None:
    source = source.resolve()  # a link among the images stands for what it points to
    if how != "copy":
        try:
            os.link(source, partial)
            return
        except OSError as error:
            if how == "hardlink":
                raise RunError(
                    f"{source} cannot be hard-linked to {partial.parent}: {error.strerror}; both "
                    "have to be on one disk. Give how='symlink' or how='copy'"
                ) from error
    try:
        shutil.copy2(source, partial)
    except FileNotFoundError as error:
        raise ImageError("the file is not there") from error


def _bytes(item: Item) -> bytes:
    """An image out of a tar as it is there, one of an array as PNG."""
    assert item.images is not None
    content = item.images.read(item.row)
    if not isinstance(content, np.ndarray):
        return content
    buffer = io.BytesIO()
    pixels = content[..., 0] if content.shape[2:] == (1,) else content
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()
