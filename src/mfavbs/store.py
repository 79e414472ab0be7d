"""A finished feature store on disk, and the small files that it shares with a run folder.

In: a folder. Out: features (n, v, t, d) float16, memory-mapped, and the manifest of their rows.
"""

import csv
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.errors import StoreError

SCHEMA = 1
ADVICE = "choose another output folder, or remove this one"
_COLUMNS = ("row", "path", "size", "mtime", "hash", "label")


@dataclass(frozen=True)
class FeatureStore:
    """A finished feature store, memory-mapped.

    Attributes
    ----------
    path
        Its folder.
    features
        (n, v, t, d) float16; view 0 is the clean one, token 0 the pooled feature.
    manifest
        One row per readable image: row, path, size, mtime, hash, label (as known of a public set,
        else its folder, or null).
    failures
        (path, reason) of every image that could not be read.
    parameters
        What made it: encoder, weights, views, seed, source, schema.
    """

    path: Path
    features: np.ndarray
    manifest: pa.Table
    failures: list[tuple[str, str]]
    parameters: dict[str, Any]

    @property
    def keys(self) -> list[str]:
        return self.manifest["path"].to_pylist()

    @property
    def labels(self) -> list[str] | None:
        """The folder of every image, or None where the images lie in one folder."""
        return None if self.manifest["label"].null_count else self.manifest["label"].to_pylist()

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a finished store.

        Raises
        ------
        StoreError
            There is none, it is unfinished, damaged or of a newer schema.
        """
        path = Path(path)
        parameters = read_json(path / "store.json")
        if parameters is None:
            state = "unfinished" if (path / "progress.json").exists() else "not a feature store"
            raise StoreError(
                f"{path} is {state}: it has no store.json; make or finish it with "
                "`mfavbs embed SOURCE --out STORE`"
            )
        check_schema(path, parameters)
        try:
            features = np.load(path / "features.npy", mmap_mode="r")
            with pq.ParquetFile(path / "manifest.parquet") as file:
                manifest = file.read()
            failures = read_failures(path / "failures.csv")
        # EOFError: an empty .npy; ValueError: one cut short, and text that is not UTF-8
        except (OSError, ValueError, KeyError, EOFError, csv.Error, pa.ArrowException) as error:
            raise StoreError(f"{path} is damaged ({error}); {ADVICE}") from error
        missing = [name for name in _COLUMNS if name not in manifest.column_names]
        if missing or features.ndim != 4 or features.dtype != np.float16:
            raise StoreError(
                f"{path} is damaged: expected features (n, v, t, d) float16 and a manifest with "
                f"{', '.join(_COLUMNS)}; got features {features.shape} {features.dtype} and "
                f"{', '.join(manifest.column_names)}; {ADVICE}"
            )
        if len(features) != len(manifest):
            raise StoreError(
                f"{path} is damaged: {len(features)} features, {len(manifest)} manifest rows; "
                f"{ADVICE}"
            )
        return cls(path, features, manifest, failures, parameters)


def is_store(path: str | Path) -> bool:
    """Whether ``path`` is a feature store, finished or not."""
    return any((Path(path) / name).is_file() for name in ("store.json", "progress.json"))


def check_schema(path: Path, parameters: dict[str, Any]) -> None:
    """Refuse a store that a later version of mfavbs wrote."""
    schema = parameters.get("schema")
    if not isinstance(schema, int):
        raise StoreError(f"{path} is damaged: expected a schema number, got {schema!r}; {ADVICE}")
    if schema > SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, this version of mfavbs reads up to {SCHEMA}; upgrade "
            "mfavbs, or make the store again"
        )


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
