"""Small files that a store, a run and a bench share: JSON, CSV, and writing whole or not at all.

In: a path and plain values. Out: a file that is the old one or the new one at every moment.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from mfavbs.errors import StoreError

ADVICE = "choose another output folder, or remove this one"


def spreadsheet_path(key: str) -> str:
    """A relative path as a table cell that no spreadsheet takes for a formula.

    ``=A1.jpg`` becomes ``./=A1.jpg``, which is the same file; :func:`path_from_spreadsheet` undoes
    it. Keys never begin with ``./`` themselves.
    """
    return f"./{key}" if key.startswith(("=", "+", "-", "@", "\t", "\r")) else key


def path_from_spreadsheet(cell: str) -> str:
    """The path that :func:`spreadsheet_path` wrote."""
    return cell.removeprefix("./")


def write_failures(path: Path, failures: Iterable[tuple[str, str]]) -> None:
    """Write (path, reason) rows as CSV."""
    # A reason may quote a name's bytes that are not UTF-8.
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows((spreadsheet_path(key), reason) for key, reason in failures)


def read_failures(path: Path) -> list[tuple[str, str]]:
    """Read (path, reason) rows back; raises `KeyError` for another table."""
    with open(path, newline="", encoding="utf-8") as file:
        return [(path_from_spreadsheet(row["path"]), row["reason"]) for row in csv.DictReader(file)]


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
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
