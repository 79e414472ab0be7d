"""The shards of a feature store that is being made, and joining them into the finished one.

In: batches of views (b, v, 3, s, s), then their features (b, v, t, d) float16. Out: a file for each
few seconds' work, whole or not there; from all of them ``features.npy`` (n, v, t, d) and tables.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mfavbs.encoders import Encoder
from mfavbs.errors import EncoderError, SourceError, StoreError
from mfavbs.files import write_json, write_reasons, write_whole
from mfavbs.images import Images, folder_labels

SHARD, SECONDS = 512, 3.0  # images, or seconds of work, that a kill loses at most


class Part:
    """One batch of a shard: readable rows, their views or features, hashes; others' reasons."""

    def __init__(self, items: list[tuple[int, torch.Tensor | None, str, str]]) -> None:
        views = [view for _, view, _, _ in items if view is not None]
        self.first, self.n = items[0][0], len(items)
        self.rows = [row for row, view, _, _ in items if view is not None]
        # numpy: torch would hand its tensors over in shared memory
        self.views = torch.stack(views).numpy() if views else None  # (b, v, 3, s, s)
        self.hashes = [text for _, view, text, _ in items if view is not None]
        self.failures = {row: text for row, view, text, _ in items if view is None}
        self.notes = {row: note for row, _, _, note in items if note}
        self.features: np.ndarray | None = None  # (b, v, t, d)

    def encode(self, encoder: Encoder, images: Images) -> None:
        """Turn the views into features; raises `EncoderError` for those float16 cannot hold."""
        if self.views is None:
            return
        views = torch.from_numpy(self.views).to(encoder.device)
        tokens = _encoded(encoder, views.flatten(0, 1)).unflatten(0, views.shape[:2])
        self.views = None
        features = tokens.half()
        good = features.flatten(1).isfinite().all(1).tolist()
        if not all(good):
            bad = [images.keys[row] for row, fine in zip(self.rows, good) if not fine]
            raise EncoderError(
                f"expected features within float16's range (±65504), {encoder.name} gives larger "
                f"ones or NaN for {', '.join(bad[:3])}{' and others' if len(bad) > 3 else ''}; "
                "check weights=, or choose another encoder="
            )
        self.features = features.cpu().numpy()


# Views in one forward pass. On a CPU the activations should stay in its caches: MobileNetV2 at 128
# pixels takes, on one core, 4.0 ms a view in batches of 16 or 20, 6.4 of 32, 8.5 of 128.
_FORWARD = {"cpu": 20}
_FORWARD_ELSEWHERE = 256


def forward_size(encoder: Encoder) -> int:
    """Views in every forward pass: what is missing is filled up with black.

    The last bits of a feature differ with the size of the batch, not with its other images.
    """
    return _FORWARD.get(encoder.device.type, _FORWARD_ELSEWHERE)


def _encoded(encoder: Encoder, views: torch.Tensor) -> torch.Tensor:
    size = forward_size(encoder)
    tokens = []
    for chunk in views.split(size):  # (b, 3, s, s)
        n_missing = size - len(chunk)
        padded = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, n_missing)) if n_missing else chunk
        tokens.append(encoder(padded)[: len(chunk)])  # (b, t, d)
    return torch.cat(tokens)


_SHARD_NAME = re.compile(r"(\d{8,})-(\d{8,})\.safetensors")


def _shards(out: Path) -> list[tuple[range, Path]]:
    """Whole shards that are there, by the rows they hold, in order."""
    found = [
        (range(int(name[1]), int(name[2])), path)
        for path in (out / "shards").iterdir()
        if (name := _SHARD_NAME.fullmatch(path.name))
    ]
    return sorted(found, key=lambda one: one[0].start)


def missing_rows(out: Path, n: int) -> list[range]:
    """Which of ``n`` rows no shard holds yet."""
    missing, at = [], 0
    for rows, _ in _shards(out):
        missing.append(range(at, rows.start))
        at = rows.stop
    return [rows for rows in (*missing, range(at, n)) if rows]


def write_shard(out: Path, parts: list[Part]) -> None:
    """One file for features, rows, hashes and failures, so that one rename makes it whole."""
    arrays = [part.features for part in parts if part.features is not None]
    features = np.concatenate(arrays) if arrays else np.empty((0, 0, 0, 0), np.float16)
    rows = np.array([row for part in parts for row in part.rows], dtype=np.int64)
    failures = {row: reason for part in parts for row, reason in part.failures.items()}
    notes = {row: note for part in parts for row, note in part.notes.items()}
    about = {
        "hashes": json.dumps([text for part in parts for text in part.hashes]),
        "failures": json.dumps(failures),
        "notes": json.dumps(notes),
    }
    content = save({"features": features, "rows": rows}, metadata=about)
    last = parts[-1].first + parts[-1].n
    path = out / "shards" / f"{parts[0].first:08d}-{last:08d}.safetensors"
    write_whole(path, lambda file: file.write(content))


def join_shards(images: Images, out: Path, parameters: dict[str, Any]) -> None:
    """Put all shards into one file, then the manifest, then ``store.json``.

    Raises
    ------
    SourceError
        No image could be read.
    StoreError
        A shard is damaged.
    """
    shards = [path for _, path in _shards(out)]
    rows: list[int] = []
    hashes: list[str] = []
    failures: dict[int, str] = {}
    notes: dict[int, str] = {}
    shape: list[int] = []
    for path in shards:
        with _opened(path) as file:
            about = file.metadata()
            rows += file.get_tensor("rows").tolist()
            hashes += json.loads(about["hashes"])
            failures |= _by_row(about["failures"])
            notes |= _by_row(about["notes"])
            one = file.get_slice("features").get_shape()
            shape = one[1:] if one[0] else shape
    if not rows:
        first = "; ".join(f"{images.keys[row]}: {failures[row]}" for row in sorted(failures)[:3])
        raise SourceError(
            f"expected images that can be read, none of {len(images)} can: {first}; check the "
            "source"
        )

    def write(npy: IO[bytes]) -> None:
        # Not through a memory map: on a full disk that ends the process with a bus error.
        header = {"descr": "<f2", "fortran_order": False, "shape": (len(rows), *shape)}
        np.lib.format.write_array_header_1_0(npy, header)
        for path in shards:
            with _opened(path) as file:
                npy.write(file.get_tensor("features").tobytes())

    write_whole(out / "features.npy", write)
    manifest = _manifest(images, rows, hashes)
    write_whole(out / "manifest.parquet", lambda file: pq.write_table(manifest, file))
    for name, reasons in (("failures.csv", failures), ("warnings.csv", notes)):
        write_reasons(out / name, [(images.keys[row], reasons[row]) for row in sorted(reasons)])
    write_reasons(out / "skipped.csv", images.skipped)
    write_json(out / "store.json", parameters)


def _by_row(text: str) -> dict[int, str]:
    return {int(row): reason for row, reason in json.loads(text).items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the shard {path} is damaged ({error}); remove it and run the same command again"
        ) from error


def _manifest(images: Images, rows: list[int], hashes: list[str]) -> pa.Table:
    stats = [images.stat(row) for row in rows]
    keys = [images.keys[row] for row in rows]
    known = images.labels
    labels = [known[row] for row in rows] if known else folder_labels(keys)
    return pa.table(
        {
            "row": pa.array(range(len(rows)), pa.int64()),
            "path": pa.array(keys, pa.string()),
            "size": pa.array([size for size, _ in stats], pa.int64()),
            "mtime": pa.array([mtime for _, mtime in stats], pa.float64()),
            "hash": pa.array(hashes, pa.string()),
            "label": pa.array(labels, pa.string()) if labels else pa.nulls(len(keys), pa.string()),
        }
    )
