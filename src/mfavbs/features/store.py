"""A finished feature store on disk.

In: a folder. Out: features (n, v, t, d) float16, memory-mapped, and the manifest of their rows.

==========================  ====================================================================
``store.json``              what made it, and which of the following are its present state
``segments/X``              ``features.npy`` (m, v, t, d) of the contents that came together, and
                            ``hashes.txt``, which they are; ``looks.npy`` (m, LOOK.itemsize), how
                            they look (:mod:`mfavbs.images.looks`); nothing in it ever changes
``tables/X``                ``manifest.parquet``, one row for each image that could be read and the
                            place of its features; ``failed.parquet``, ``failures.csv``,
                            ``warnings.csv``, ``skipped.csv``: what could not be read, what was
                            read though something is wrong with it, what was never read
==========================  ====================================================================
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.errors import StoreError
from mfavbs.features.elsewhere import (
    check_sent,
    check_writable,
    is_store_at,
    location_of,
    path_of,
    store_folder,
)
from mfavbs.features.listing import Diff, compare
from mfavbs.features.pieces import PIECES
from mfavbs.features.segments import as_one, is_one
from mfavbs.features.sending import in_step
from mfavbs.features.state import (
    SEGMENTS,
    TABLES,
    make_compact,
    read_looks,
    read_seen,
    read_segments,
    tidy,
)
from mfavbs.files import ADVICE, holds_only, read_json, read_reasons
from mfavbs.images import LOOK, Images
from mfavbs.locking import alone_in
from mfavbs.urls import is_url

SCHEMA = 2
_OF_THE_SOURCE = (
    *("schema", "source", "n_candidates", "listing_hash"),
    *("state", "number", "segments", "tables"),
)
_COLUMNS = ("row", "path", "size", "mtime", "hash", "label")


@dataclass(frozen=True)
class FeatureStore:
    """A finished feature store, memory-mapped.

    Attributes
    ----------
    path
        Its folder; of one at a URL, its copy on this machine.
    features
        (n, v, t, d) float16; view 0 is the clean one, token 0 the pooled feature. An array, or
        what is indexed like one where the images came at different times.
    manifest
        One row per readable image: row, path, size, mtime, hash, label (as known of a public set,
        else its folder, or null) and since, the number of the state that its content came in.
    failures
        (path, reason) of every image that could not be read.
    notes
        (path, reason) of every image that was read though something was wrong with it.
    skipped
        (path, reason) of what was left out of the source, and so was never read.
    parameters
        What made it: encoder, weights, views, seed, source, schema; and its present state.
    """

    path: Path
    features: np.ndarray
    manifest: pa.Table
    failures: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    parameters: dict[str, Any]

    @property
    def location(self) -> str:
        """Its folder, or the URL where it lies."""
        return location_of(self.path)

    @property
    def tables(self) -> Path:
        """Folder of its tables: the manifest, and failures.csv, warnings.csv, skipped.csv."""
        return _tables(self.path, self.parameters)

    @property
    def keys(self) -> list[str]:
        """Names of its images, (n,)."""
        return self.manifest["path"].to_pylist()

    @property
    def hashes(self) -> list[str]:
        """Content hashes of its images, (n,)."""
        return self.manifest["hash"].to_pylist()

    @property
    def labels(self) -> list[str] | None:
        """The folder of every image, or None where the images lie in one folder."""
        return None if self.manifest["label"].null_count else self.manifest["label"].to_pylist()

    @property
    def looks(self) -> np.ndarray | None:
        """(n,) of the type `mfavbs.images.LOOK`, 0 wide where unknown; None in older stores."""
        if self.parameters["schema"] == 1:
            return None
        blocks = read_looks(self.path, self.parameters["segments"])
        if all(block is None for block in blocks):
            return None
        segment, place = (self.manifest[name].to_numpy() for name in ("segment", "place"))
        if is_one(blocks, place):
            return blocks[0]
        looks = np.zeros(len(segment), LOOK)
        for number, block in enumerate(blocks):
            if block is not None:
                mine = segment == number
                looks[mine] = block[place[mine]]
        return looks

    @property
    def blocks(self) -> tuple[int, ...]:
        """Widths of the encoders' blocks, which side by side are d; (d,) for one encoder."""
        return tuple(self.parameters.get("blocks") or self.features.shape[3:])

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decided its features beside the images, as far as its schema records it."""
        return {k: v for k, v in self.parameters.items() if k not in _OF_THE_SOURCE}

    @property
    def state(self) -> str | None:
        """Digest of its rows, names and contents; None for a store of schema 1."""
        return self.parameters.get("state")

    def diff(self, images: Images) -> Diff:
        """What :func:`mfavbs.embed` would find changed, by name, size and date.

        Raises
        ------
        StoreError
            The store is of schema 1, which cannot be brought up to date.
        """
        if self.parameters["schema"] < SCHEMA:
            raise StoreError(f"{self.path} is of an earlier version of mfavbs; make it again")
        before = read_seen(self.path, self.parameters)
        return compare(before, ((key, images.stat(row)) for row, key in enumerate(images.keys)))

    @classmethod
    def open(cls, path: str | Path) -> "FeatureStore":
        """Open a finished store, of a folder or a URL.

        What lies at a URL is copied to this machine, into the cache that the environment variable
        ``MFAVBS_CACHE`` names; the next time only what has changed there.

        Raises
        ------
        StoreError
            There is none, it is unfinished, damaged or of a newer schema.
        """
        given, path = path, store_folder(path)
        if is_url(str(given)):
            check_sent(path)
        parameters = read_json(path / "store.json")
        if parameters is None:
            state = "unfinished" if (path / "progress.json").exists() else "not a feature store"
            raise StoreError(
                f"{given} is {state}: it has no store.json; make or finish it with "
                "`mfavbs embed SOURCE --out STORE`"
            )
        check_schema(path, parameters)
        parameters.setdefault("augment", "default")  # before there was a choice
        try:
            tables = _tables(path, parameters)
            with pq.ParquetFile(tables / "manifest.parquet") as file:
                manifest = file.read()
            features = _features(path, parameters, manifest)
            failures, notes, skipped = (
                read_reasons(tables / name) if (tables / name).exists() else []
                for name in ("failures.csv", "warnings.csv", "skipped.csv")
            )  # an earlier version wrote the first alone
        # EOFError: an empty .npy; ValueError: one cut short, and text that is not UTF-8
        except (
            *(OSError, ValueError, LookupError, TypeError, EOFError),
            *(csv.Error, pa.ArrowException),
        ) as error:
            raise StoreError(f"{given} is damaged ({error}); {ADVICE}") from error
        missing = [name for name in _COLUMNS if name not in manifest.column_names]
        if missing or features.ndim != 4 or features.dtype != np.float16:
            raise StoreError(
                f"{given} is damaged: expected features (n, v, t, d) float16 and a manifest with "
                f"{', '.join(_COLUMNS)}; got features {features.shape} {features.dtype} and "
                f"{', '.join(manifest.column_names)}; {ADVICE}"
            )
        if len(features) != len(manifest):
            raise StoreError(
                f"{given} is damaged: {len(features)} features, {len(manifest)} manifest rows; "
                f"{ADVICE}"
            )
        return cls(path, features, manifest, failures, notes, skipped, parameters)


def _tables(path: Path, parameters: dict[str, Any]) -> Path:
    return path / TABLES / parameters["tables"] if parameters["schema"] > 1 else path


def _features(path: Path, parameters: dict[str, Any], manifest: pa.Table) -> np.ndarray:
    if parameters["schema"] == 1:
        return np.load(path / "features.npy", mmap_mode="r", allow_pickle=False)
    blocks = read_segments(path, parameters["segments"])
    segment, place = (manifest[name].to_numpy() for name in ("segment", "place"))
    for number, block in enumerate(blocks):
        if (place[segment == number] >= len(block)).any():
            raise ValueError(f"segment {parameters['segments'][number]} is too short")
    return as_one(blocks, segment, place)


def is_store(path: str | Path) -> bool:
    """Whether ``path`` is a feature store, finished or not.

    Files of the same names that another program wrote, in a folder of images say, make no store.
    """
    if is_url(str(path)):
        found = path_of(str(path))
        if found is None:
            return is_store_at(str(path))
        path = found
    path = Path(path)
    return any(map(_is_ours, (path / "store.json", path / "progress.json")))


def _is_ours(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except OSError:
        return False
    except ValueError:  # damaged: what lies beside it tells
        return any((file.parent / name).exists() for name in ("features.npy", SEGMENTS, PIECES))
    return isinstance(content, dict) and {"schema", "encoder", "weights_hash"} <= content.keys()


def check_schema(path: Path, parameters: dict[str, Any]) -> None:
    """Refuse a store that a later version of mfavbs wrote."""
    schema, where = parameters.get("schema"), location_of(path)
    if not isinstance(schema, int):
        raise StoreError(f"{where} is damaged: expected a schema number, got {schema!r}; {ADVICE}")
    if schema > SCHEMA:
        raise StoreError(
            f"{where} has schema {schema}, this version of mfavbs reads up to {SCHEMA}; upgrade "
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
    check_writable(path)
    path = store_folder(path)
    where = location_of(path)
    finished = read_json(path / "store.json")
    begun = finished or read_json(path / "progress.json")
    if begun is None:
        # An earlier call may have been killed before it wrote the first word.
        if not holds_only(path, ["progress.json"]):
            raise StoreError(f"{where} exists and is not a feature store; {ADVICE}")
        return
    check_schema(path, begun)
    if begun["schema"] < SCHEMA:
        state = "unfinished and was begun" if finished is None else "was made"
        raise StoreError(
            f"{where} {state} by an earlier version of mfavbs (schema {begun['schema']}, now "
            f"{SCHEMA}), which drew other views; {ADVICE}"
            + ("" if finished is None else f"; or cluster it as it is: mfavbs cluster {where}")
        )
    begun.setdefault("augment", "default")  # before there was a choice
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise StoreError(
                f"{where} was made with {name}={begun.get(name)!r}, now {name}={value!r} is asked "
                f"for; {ADVICE}"
            )


def compact(path: str | Path) -> None:
    """Prune a store: what is left of images that are gone, and the pieces by time of arrival.

    What is read of it stays the same; its files are then as made at once, byte for byte.

    Raises
    ------
    StoreError
        There is no finished store, it is of schema 1, or it cannot be written.
    """
    check_writable(path)
    path = store_folder(path)
    with alone_in(path, StoreError), in_step(path, prune=True) as check:
        store = FeatureStore.open(path)
        if store.parameters["schema"] < SCHEMA:
            raise StoreError(f"{store.location} is of an earlier version of mfavbs; make it again")
        check()
        try:
            make_compact(path, store.parameters)
            tidy(path)
        except OSError as error:
            raise StoreError(
                f"the feature store {path} cannot be written: {error.strerror or error}; it is "
                "what it was: make room and run the same command again"
            ) from error
