"""The state of a feature store: which images it holds, where their features lie, what failed.

In: what came of each candidate, the features of new contents. Out: one more segment and new tables
beside the former ones; ``store.json``, replaced last, says which of them are the store.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.errors import SourceError
from mfavbs.features.pieces import PIECES, Pieces, Seen
from mfavbs.files import (
    PARTIAL,
    read_json,
    read_reasons,
    write_json,
    write_reasons,
    write_whole,
)
from mfavbs.images import LOOK, Images, folder_labels

SEGMENTS, TABLES = "segments", "tables"


def read_seen(out: Path, record: Mapping[str, Any]) -> dict[str, Seen]:
    """What came of each candidate of a finished store, by key."""
    folder = out / TABLES / record["tables"]
    names = ("path", "size", "mtime", "hash", "warning")
    columns = pq.read_table(folder / "manifest.parquet", columns=list(names)).to_pydict()
    rows = zip(*(columns[name] for name in names), strict=True)
    seen = {
        key: Seen(key, size, time, content, None, warning)
        for key, size, time, content, warning in rows
    }
    failed = pq.read_table(folder / "failed.parquet").to_pylist()
    return seen | {
        row["path"]: Seen(row["path"], row["size"], row["mtime"], None, row["reason"])
        for row in failed
    }


def segment_places(out: Path, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Content hash -> number of the segment that holds its features, and the row there."""
    found: dict[str, tuple[int, int]] = {}
    for number, name in enumerate(names):
        text = (out / SEGMENTS / name / "hashes.txt").read_text(encoding="ascii")
        found |= {content: (number, row) for row, content in enumerate(text.split())}
    return found


def read_segments(out: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Features (m, v, t, d) of each segment, memory-mapped."""
    paths = [out / SEGMENTS / name / "features.npy" for name in names]
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]


def read_looks(out: Path, names: Sequence[str]) -> list[np.ndarray | None]:
    """Looks (m,) of each segment; None where it has none, or of another version."""
    found: list[np.ndarray | None] = []
    for name in names:
        path = out / SEGMENTS / name / "looks.npy"
        looks = np.load(path, mmap_mode="r", allow_pickle=False) if path.exists() else None
        if looks is not None and looks.shape[1:] != (LOOK.itemsize,):
            looks = None
        found.append(None if looks is None else looks.view(LOOK)[:, 0])
    return found


def write_segment(
    out: Path,
    hashes: Sequence[str],
    parts: Iterable[np.ndarray],
    looks: Iterable[np.ndarray] | None,
) -> str:
    """Write a block of features, and its looks; its name is the digest of what it holds."""
    name = digest(hashes)
    folder = out / SEGMENTS / name
    os.makedirs(folder, exist_ok=True)
    _write_array(folder / "features.npy", len(hashes), parts, "<f2")
    if looks is not None:
        _write_array(folder / "looks.npy", len(hashes), looks, "|u1")
    text = "".join(f"{content}\n" for content in hashes)
    write_whole(folder / "hashes.txt", lambda file: file.write(text.encode("ascii")))
    return name


def _write_array(path: Path, n: int, parts: Iterable[np.ndarray], kind: str) -> None:
    def write(file: IO[bytes]) -> None:
        # Not through a memory map: on a full disk that ends the process with a bus error.
        begun = False
        for part in parts:
            if not begun:
                header = {"descr": kind, "fortran_order": False, "shape": (n, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
                begun = True
            file.write(np.ascontiguousarray(part).data)

    write_whole(path, write)


def write_state(
    out: Path,
    images: Images,
    about: Mapping[str, Any],
    seen: Mapping[str, Seen],
    former: Mapping[str, Any] | None,
    pieces: Pieces,
) -> None:
    """Make the images that can be read now the store's.

    Parameters
    ----------
    out
        The store.
    images
        The candidates.
    about
        What ``store.json`` says beside the state: schema, recipe and source.
    seen
        What came of every candidate, by key.
    former
        ``store.json`` as it was; None for a store's first state.
    pieces
        The features of contents that no segment holds yet.

    Raises
    ------
    SourceError
        No image could be read.
    """
    rows = [seen[key] for key in images.keys]
    good = [row for row in rows if row.hash]
    if not good:
        first = "; ".join(f"{row.key}: {row.reason}" for row in rows[:3])
        raise SourceError(
            f"expected images that can be read, none of {len(rows)} can: {first}; check the source"
        )
    names = list(former["segments"]) if former else []
    places = segment_places(out, names)
    new = list(dict.fromkeys(row.hash for row in good if row.hash and row.hash not in places))
    if new:
        names.append(write_segment(out, new, pieces.features(new), pieces.looks(new)))
        places |= {content: (len(names) - 1, row) for row, content in enumerate(new)}
    known = dict(zip(images.keys, images.labels, strict=True)) if images.labels else None
    keys = [row.key for row in good]
    labels = [known[key] for key in keys] if known else folder_labels(keys)
    number = former["number"] + 1 if former else 1
    came = _came(out, former)
    since = [came.get(row.hash or "", number) for row in good]
    at = [places[row.hash or ""] for row in good]
    name = _write_tables(out, rows, labels, at, since, images.skipped)
    _commit(out, about, good, number, names, name)


def make_compact(out: Path, record: Mapping[str, Any]) -> None:
    """Leave on the disk what the store's images need, as if made of them at once.

    Parameters
    ----------
    out, record
        A finished store and its ``store.json``.
    """
    manifest = pq.read_table(out / TABLES / record["tables"] / "manifest.parquet")
    seen = read_seen(out, record)
    places = segment_places(out, record["segments"])
    blocks = read_segments(out, record["segments"])
    contents = list(dict.fromkeys(manifest["hash"].to_pylist()))
    at = [places[content] for content in contents]
    features = (blocks[block][row][None] for block, row in at)
    name = write_segment(
        out, contents, features, _looks_at(read_looks(out, record["segments"]), at)
    )
    row_of = {content: (0, row) for row, content in enumerate(contents)}
    good = [seen[key] for key in manifest["path"].to_pylist()]
    bad = [row for row in seen.values() if not row.hash]
    labels = manifest["label"].to_pylist()
    tables = _write_tables(
        out,
        [*good, *bad],
        None if manifest["label"].null_count else labels,
        [row_of[row.hash or ""] for row in good],
        [1] * len(good),
        read_reasons(out / TABLES / record["tables"] / "skipped.csv"),
    )
    made = ("state", "number", "segments", "tables")
    about = {key: value for key, value in record.items() if key not in made}
    _commit(out, about, good, 1, [name], tables)


def _looks_at(
    blocks: Sequence[np.ndarray | None], at: Sequence[tuple[int, int]]
) -> Iterator[np.ndarray] | None:
    """Looks at these places, (1, LOOK.itemsize) each; None where no block has any."""
    if all(block is None for block in blocks):
        return None
    unknown = np.zeros((1, LOOK.itemsize), np.uint8)
    return (
        unknown if looks is None else looks[row : row + 1].view(np.uint8)[None]
        for looks, row in ((blocks[block], row) for block, row in at)
    )


def _commit(
    out: Path,
    about: Mapping[str, Any],
    good: Sequence[Seen],
    number: int,
    segments: Sequence[str],
    tables: str,
) -> None:
    state = digest(f"{row.key}\0{row.hash}" for row in good)
    made = {"state": state, "number": number, "segments": list(segments), "tables": tables}
    write_json(out / "store.json", {**about, **made})


def _came(out: Path, former: Mapping[str, Any] | None) -> dict[str, int]:
    """Number of the state that each content of the former one came in."""
    if former is None:
        return {}
    path = out / TABLES / former["tables"] / "manifest.parquet"
    columns = pq.read_table(path, columns=["hash", "since"]).to_pydict()
    return dict(zip(columns["hash"], columns["since"], strict=True))


def tidy(out: Path) -> None:
    """Remove what a finished store does not name, and what a kill or a failure has left."""
    record = read_json(out / "store.json")
    for folder, keep in ((SEGMENTS, "segments"), (TABLES, "tables")):
        named = (record or {}).get(keep, [])
        for path in (out / folder).glob("*"):
            if path.name not in ([named] if isinstance(named, str) else named):
                shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(out / PIECES, ignore_errors=True)
    (out / "progress.json").unlink(missing_ok=True)
    for partial in out.glob(f"*{PARTIAL}"):
        partial.unlink()
    for folder in (SEGMENTS, TABLES):
        with contextlib.suppress(OSError):  # empty where nothing was readable
            (out / folder).rmdir()


def digest(texts: Iterable[str]) -> str:
    """16 hex digits of some texts in their order."""
    found = hashlib.blake2b(digest_size=8)
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()


def _write_tables(
    out: Path,
    rows: Sequence[Seen],
    labels: Sequence[str] | None,
    places: Sequence[tuple[int, int]],
    since: Sequence[int],
    skipped: Sequence[tuple[str, str]],
) -> str:
    """Write the tables of a state into a folder of their own, whose name is their digest.

    ``labels``, ``places`` and ``since`` are of those rows that could be read.
    """
    good = [row for row in rows if row.hash]
    bad = [row for row in rows if not row.hash]
    name = digest([json.dumps([good, bad, labels, places, since, skipped])])
    folder = out / TABLES / name
    os.makedirs(folder, exist_ok=True)
    manifest = {
        "row": pa.array(range(len(good)), pa.int64()),
        "path": pa.array([row.key for row in good], pa.string()),
        "size": pa.array([row.size for row in good], pa.int64()),
        "mtime": pa.array([row.time for row in good], pa.float64()),
        "hash": pa.array([row.hash for row in good], pa.string()),
        "label": pa.array(labels, pa.string()) if labels else pa.nulls(len(good), pa.string()),
        "segment": pa.array([segment for segment, _ in places], pa.int32()),
        "place": pa.array([row for _, row in places], pa.int64()),
        "since": pa.array(since, pa.int32()),
        "warning": pa.array([row.warning for row in good], pa.string()),
    }
    failed = {
        "path": pa.array([row.key for row in bad], pa.string()),
        "size": pa.array([row.size for row in bad], pa.int64()),
        "mtime": pa.array([row.time for row in bad], pa.float64()),
        "reason": pa.array([row.reason for row in bad], pa.string()),
    }
    write_whole(folder / "manifest.parquet", lambda file: pq.write_table(pa.table(manifest), file))
    write_whole(folder / "failed.parquet", lambda file: pq.write_table(pa.table(failed), file))
    write_reasons(folder / "failures.csv", [(row.key, row.reason or "") for row in bad])
    warned = [(row.key, row.warning) for row in good if row.warning]
    write_reasons(folder / "warnings.csv", warned)
    write_reasons(folder / "skipped.csv", skipped)
    return name
