"""A finished feature store on disk.

In: a folder. Out: features (n, v, t, d) float16, memory-mapped, and the manifest of their rows.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.errors import StoreError
from mfavbs.files import ADVICE, holds_only, read_json, read_reasons, user_path

SCHEMA = 2
_OF_THE_SOURCE = ("schema", "source", "n_candidates", "listing_hash")
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
    skipped
        (path, reason) of what was left out of the source, and so was never read.
    notes
        (path, reason) of every image that was read though something was wrong with it.
    """

    path: Path
    features: np.ndarray
    manifest: pa.Table
    failures: list[tuple[str, str]]
    parameters: dict[str, Any]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        return self.manifest["path"].to_pylist()

    @property
    def labels(self) -> list[str] | None:
        """The folder of every image, or None where the images lie in one folder."""
        return None if self.manifest["label"].null_count else self.manifest["label"].to_pylist()

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decided its features beside the images, as far as its schema records it."""
        return {k: v for k, v in self.parameters.items() if k not in _OF_THE_SOURCE}

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a finished store.

        Raises
        ------
        StoreError
            There is none, it is unfinished, damaged or of a newer schema.
        """
        path = user_path(path)
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
            failures = read_reasons(path / "failures.csv")
            # Stores made before they were written have none of these.
            skipped, notes = (
                read_reasons(path / name) if (path / name).exists() else []
                for name in ("skipped.csv", "warnings.csv")
            )
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
        return cls(path, features, manifest, failures, parameters, skipped, notes)


def is_store(path: str | Path) -> bool:
    """Whether ``path`` is a feature store, finished or not.

    Files of the same names that another program wrote, in a folder of images say, make no store.
    """
    path = user_path(path)
    return any(map(_is_ours, (path / "store.json", path / "progress.json")))


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except OSError:
        return False
    except ValueError:  # damaged: what lies beside it tells
        return (file.parent / "features.npy").exists() or (file.parent / "shards").is_dir()
    return isinstance(content, dict) and {"schema", "encoder", "weights_hash"} <= content.keys()


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


def check_store(path: str | Path, wanted: Mapping[str, Any]) -> None:
    """Refuse to make a store in a folder, before anything is encoded.

    Parameters
    ----------
    path
        The folder.
    wanted
        What is to make the store, or as much of it as is known already.

    Raises
    ------
    StoreError
        Something else is there, or a store made by another version or with other parameters.
    """
    path = user_path(path)
    finished = read_json(path / "store.json")
    begun = finished or read_json(path / "progress.json")
    if begun is None:
        # An earlier call may have been killed before it wrote the first word.
        if not holds_only(path, ["shards", "progress.json"]):
            raise StoreError(f"{path} exists and is not a feature store; {ADVICE}")
        return
    check_schema(path, begun)
    if begun["schema"] < SCHEMA:
        state = "unfinished and was begun" if finished is None else "was made"
        raise StoreError(
            f"{path} {state} by an earlier version of mfavbs (schema {begun['schema']}, now "
            f"{SCHEMA}), which drew other views; {ADVICE}"
            + ("" if finished is None else f"; or cluster it as it is: mfavbs cluster {path}")
        )
    for name, value in wanted.items():
        if name == "listing_hash" and begun.get(name) != value:
            raise StoreError(
                f"the images have changed since {path} was begun (names, sizes or dates differ); "
                f"{ADVICE}"
            )
        if begun.get(name) != value:
            raise StoreError(
                f"{path} was made with {name}={begun.get(name)!r}, now {name}={value!r} is asked "
                f"for; {ADVICE}"
            )
