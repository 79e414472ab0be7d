"""Small files that a store, a run and a bench share: JSON, CSV, and writing whole or not at all.

In: a path and plain values. Out: a file that is the old one or the new one at every moment.
"""

import contextlib
import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from mfavbs.errors import MfavbsError, StoreError
from mfavbs.locking import LOCK
from mfavbs.urls import is_url, without_secrets

PARTIAL = ".partial"  # behind the name of a file that is not whole yet
# Names that Windows keeps for devices, with any suffix.
_RESERVED = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)")
# What pathlib leaves of a URL: s3:/bucket.
_WAS_URL = re.compile(r"^((?:[a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+:)/(?=[^/])", re.IGNORECASE)
ADVICE = "choose another output folder, or remove this one"


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as it was given, with a leading ``~`` for the home folder.

    A shell does so itself, but for ``--out=~/x`` and where there is no shell.

    Raises
    ------
    MfavbsError
        It is a URL.
    """
    given = _WAS_URL.sub(r"\1//", os.fspath(path))
    if is_url(given):
        raise MfavbsError(
            f"expected a path on this machine, got the URL {without_secrets(given)}: images and "
            "feature stores may lie at URLs, all else is read and written here"
        )
    return Path(os.path.expanduser(path))


def output_name(source: str | os.PathLike[str]) -> str:
    """What the output of a source is called: a folder's name, a file's without its suffix."""
    if os.fspath(source) == "-":
        return "list"
    path = os.path.abspath(os.path.expanduser(source))
    name = os.path.basename(path)
    if not os.path.isdir(path):
        name = os.path.splitext(name)[0]
        name = name[:-4] if name.lower().endswith(".tar") else name
    return name or "root"


def spreadsheet_path(text: str) -> str:
    """A path or other text as a table cell that no spreadsheet takes for a formula.

    ``=A1.jpg`` becomes ``./=A1.jpg``, which is the same file, and so does what looks like a formula
    after leading blanks and control characters or in full width (``＝A1.jpg``).
    :func:`path_from_spreadsheet` undoes it, for every text.
    """
    return f"./{text}" if text.startswith(("./", "\t", "\r")) or _like_a_formula(text) else text


def _like_a_formula(text: str) -> bool:
    # Of a character's general category C is control and format, Z blank.
    visible = (c for c in text if unicodedata.category(c)[0] not in "CZ")
    return unicodedata.normalize("NFKC", next(visible, "")) in ("=", "+", "-", "@")


def path_from_spreadsheet(cell: str) -> str:
    """The text that :func:`spreadsheet_path` wrote."""
    return cell.removeprefix("./")


def safe_name(text: str, limit: int = 120) -> str:
    """A name for a file or folder that every system takes, as like ``text`` as that allows.

    Parameters
    ----------
    text
        Anything, the last part of a path say.
    limit
        Bytes of UTF-8 at most; the suffix of a file is kept.
    """
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
    # Control and format characters, such as those that turn the direction of writing, go too.
    seen = ("_" if c in '<>:"/\\|?*' or unicodedata.category(c)[0] == "C" else c for c in text)
    name = "".join(seen).strip().rstrip(". ")
    name = f"_{name}" if not name or name[0] == "." or _RESERVED.match(name) else name
    if len(name.encode()) <= limit:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 10:
        stem, dot, suffix = name, "", ""
    room = limit - len((dot + suffix).encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip(". ") + dot + suffix


def write_reasons(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write (path, reason) rows as a CSV that spreadsheets read."""
    cells = ((spreadsheet_path(name), spreadsheet_path(reason)) for name, reason in rows)
    write_csv(path, ("path", "reason"), cells)


def read_reasons(path: Path) -> list[tuple[str, str]]:
    """Read (path, reason) rows back; raises `KeyError` for another table."""
    with open(path, newline="", encoding="utf-8-sig", errors="backslashreplace") as file:
        rows = csv.DictReader(file)
        if not {"path", "reason"} <= set(rows.fieldnames or []):
            raise KeyError(f"the columns {rows.fieldnames}, not path and reason")
        cells = ((row["path"] or "", row["reason"] or "") for row in rows)
        return [(path_from_spreadsheet(name), path_from_spreadsheet(why)) for name, why in cells]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write a table whole or not at all."""

    def write(file: IO[bytes]) -> None:
        # A byte order mark: without it spreadsheets take UTF-8 for the local code page. A reason
        # may quote a name's bytes that are not UTF-8.
        text = io.TextIOWrapper(file, "utf-8-sig", "backslashreplace", newline="")
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)
        text.detach()

    write_whole(path, write)


def read_json(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file, or None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}); {ADVICE}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} is damaged: expected an object; {ADVICE}")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a file that takes its name only when it is whole and on the disk."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk gets its room back
            partial.unlink()
        raise


def holds_only(folder: Path, names: Collection[str]) -> bool:
    """Whether ``folder`` is not there, or holds nothing but ``names`` and what is left of them.

    A process killed before it wrote its first word may leave a lock and a ``.partial`` file.
    """
    if not folder.exists():
        return True
    left = {LOCK, *names, *(name + PARTIAL for name in names)}
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= left
