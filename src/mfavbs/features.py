"""Every view of every image through the frozen encoder, once, onto disk.

In: a source of images and an encoder.
Out: a feature store: a folder with ``features.npy`` (n, v, t, d) float16, ``manifest.parquet`` with
one row per readable image, ``failures.csv`` with the others and, written last, ``store.json``.

While it is being made, each finished shard of images is one file under ``shards/``, renamed into
place when whole. Interrupted at any moment, the same call goes on from there, to the same bytes.
"""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.utils.data import DataLoader, Dataset

from mfavbs.encoders import Encoder, pick_device
from mfavbs.errors import ImageError, SourceError, StoreError
from mfavbs.images import Images, content_hash, decode, folder_labels
from mfavbs.progress import Progress
from mfavbs.views import VIEWS_VERSION, Views

SCHEMA = 1
_SHARD = 512  # images; a kill loses at most this much work
_BATCH = 128  # views in one forward pass of the encoder
_ADVICE = "Choose another output folder, or remove this one."


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
        One row per readable image: row, path, size, mtime, hash, label (its folder, or null).
    failures
        (path, reason) of every image that could not be read.
    parameters
        What made it: encoder, weights, views, seed, source, schema.
    """

    path: Path
    features: np.ndarray
    manifest: pa.Table
    failures: list[tuple[str, str]]
    parameters: dict

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
            If there is none, it is unfinished, damaged or of a newer schema.
        """
        path = Path(path)
        parameters = _read_json(path / "store.json")
        if parameters is None:
            state = "unfinished" if (path / "progress.json").exists() else "not a feature store"
            raise StoreError(
                f"{path} is {state}: it has no store.json. "
                "Make or finish it with `mfavbs embed SOURCE --out STORE`."
            )
        if parameters.get("schema", 0) > SCHEMA:
            raise StoreError(
                f"{path} has schema {parameters['schema']}, this version of mfavbs reads up to "
                f"{SCHEMA}. Upgrade mfavbs, or make the store again."
            )
        try:
            features = np.load(path / "features.npy", mmap_mode="r")
            manifest = pq.read_table(path / "manifest.parquet")
            with open(path / "failures.csv", newline="", encoding="utf-8") as file:
                failures = [(row["path"], row["reason"]) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
            raise StoreError(f"{path} is damaged ({error}). {_ADVICE}") from error
        if len(features) != len(manifest):
            raise StoreError(
                f"{path} is damaged: {len(features)} features, {len(manifest)} manifest rows. "
                f"{_ADVICE}"
            )
        return cls(path, features, manifest, failures, parameters)


def is_store(path: str | Path) -> bool:
    """Whether ``path`` is a feature store, finished or not."""
    return any((Path(path) / name).is_file() for name in ("store.json", "progress.json"))


def embed(
    images: Images,
    out: str | Path,
    encoder: Encoder,
    *,
    n_views: int = 5,
    seed: int = 0,
    device: str = "auto",
    n_workers: int | None = None,
    verbose: bool = True,
) -> FeatureStore:
    """Encode ``n_views`` views of every image into the feature store ``out``, or finish it.

    Parameters
    ----------
    images
        From :func:`mfavbs.images.open_images`.
    out
        Folder of the store. A finished one made with the same parameters is returned as it is,
        an unfinished one goes on from its last whole shard.
    encoder
        From :func:`mfavbs.encoders.load_encoder`.
    n_views
        v >= 1, the clean view counted in.
    seed
        Of the augmentations.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    n_workers
        Processes that decode and augment; by default one for each core but one.
    verbose
        Show progress on stderr.

    Raises
    ------
    StoreError
        If ``out`` was made with other parameters, or cannot be written.
    SourceError
        If no image could be read.
    """
    out = Path(out)
    if n_views < 1:
        raise SourceError(f"n_views={n_views} should be >= 1.")
    parameters = _parameters(images, encoder, n_views, seed)
    try:
        if not _begin(out, parameters):
            return FeatureStore.open(out)
        _write_missing_shards(
            images, out, encoder.to_device(pick_device(device)), n_views, seed, n_workers, verbose
        )
        _join(images, out, parameters)
    except OSError as error:
        raise StoreError(
            f"The feature store {out} cannot be written: {error.strerror or error}. "
            "Finished shards stay good: make room or choose another --out, and run the same "
            "command again."
        ) from error
    return FeatureStore.open(out)


def _parameters(images: Images, encoder: Encoder, n_views: int, seed: int) -> dict:
    """All that decides the bytes of a store, in the order in which a mismatch is reported."""
    listing = hashlib.blake2b(digest_size=16)
    for row, key in enumerate(images.keys):
        listing.update(f"{key}\0{images.stat(row)}\n".encode())
    if images.kind == "array":
        for row in range(len(images)):
            listing.update(content_hash(images.read(row)).encode())
    return {
        "schema": SCHEMA,
        "encoder": encoder.name,
        "weights_hash": encoder.weights_hash,
        "image_size": encoder.image_size,
        "grid": encoder.grid,
        "n_views": n_views,
        "seed": seed,
        "augmentation": encoder.augmentation,
        "views_version": VIEWS_VERSION,
        "source": {"kind": images.kind, "location": images.location},
        "n_candidates": len(images),
        "listing_hash": listing.hexdigest(),
    }


def _begin(out: Path, wanted: dict) -> bool:
    """Whether there is work left in ``out``; refuses a store made with other parameters."""
    finished = _read_json(out / "store.json")
    begun = finished or _read_json(out / "progress.json")
    if begun is None:
        if out.is_dir() and any(out.iterdir()):
            raise StoreError(f"{out} exists and is not a feature store. {_ADVICE}")
        (out / "shards").mkdir(parents=True)
        _write_json(out / "progress.json", wanted)
        return True
    for name, value in wanted.items():
        if name == "listing_hash" and begun.get(name) != value:
            raise StoreError(
                f"The images have changed since {out} was begun (names, sizes or dates differ). "
                f"{_ADVICE}"
            )
        if begun.get(name) != value:
            raise StoreError(
                f"{out} was made with {name}={begun.get(name)!r}, now {name}={value!r} is asked "
                f"for. {_ADVICE}"
            )
    return finished is None


class _ImageViews(Dataset):
    """Row -> (row, views (v, 3, s, s) uint8, content hash), or (row, None, reason)."""

    def __init__(self, images: Images, views: Views) -> None:
        self.images = images
        self.views = views

    def __getitem__(self, row: int) -> tuple[int, torch.Tensor | None, str]:
        try:
            content = self.images.read(row)
            image = decode(content, at_least=self.views.image_size)
            return row, self.views(image, self.images.keys[row]), content_hash(content)
        except ImageError as error:
            return row, None, str(error)


def _collate(items: list) -> tuple[list[int], torch.Tensor, list[str], dict[int, str]]:
    """Readable rows, their views (b, v, 3, s, s), their hashes; and the reasons of the others."""
    good = [item for item in items if item[1] is not None]
    views = torch.stack([item[1] for item in good]) if good else torch.empty(0)
    bad = {row: reason for row, view, reason in items if view is None}
    return [item[0] for item in good], views, [item[2] for item in good], bad


def _write_missing_shards(
    images: Images,
    out: Path,
    encoder: Encoder,
    n_views: int,
    seed: int,
    n_workers: int | None,
    verbose: bool,
) -> None:
    batch = max(1, _BATCH // n_views)
    # Batches never cross a shard's edge: a shard's bytes do not depend on where a run resumed.
    missing = [s for s in range(-(-len(images) // _SHARD)) if not _shard(out, s).exists()]
    batches: list[list[int]] = []
    for s in missing:
        rows = range(s * _SHARD, min((s + 1) * _SHARD, len(images)))
        batches += [list(rows[i : i + batch]) for i in range(0, len(rows), batch)]
    if n_workers is None:
        n_workers = min(len(batches), max(0, (os.cpu_count() or 1) - 1))
    loader = DataLoader(
        _ImageViews(images, Views(encoder.image_size, n_views, seed, encoder.augmentation)),
        batch_sampler=batches,
        num_workers=n_workers,
        collate_fn=_collate,
        pin_memory=encoder.mean.is_cuda,
        prefetch_factor=4 if n_workers else None,
    )
    done = len(images) - sum(map(len, batches))
    with Progress("embedding", len(images), "images", done, show=verbose) as progress:
        for s, parts in _by_shard(loader, encoder, batches, progress):
            _write_shard(_shard(out, s), parts)


def _by_shard(
    loader: DataLoader, encoder: Encoder, batches: list[list[int]], progress: Progress
) -> Iterator[tuple[int, list]]:
    """Encode batch after batch and hand over (shard, its parts) whenever a shard is whole."""
    parts: list = []
    for i, (rows, views, hashes, failures) in enumerate(loader):
        if rows:
            tokens = encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2])  # (b, v, t, d)
            parts.append((rows, tokens.cpu().half().numpy(), hashes, failures))
        else:
            parts.append((rows, None, hashes, failures))
        progress.advance(len(batches[i]))
        shard = batches[i][0] // _SHARD
        if i + 1 == len(batches) or batches[i + 1][0] // _SHARD != shard:
            yield shard, parts
            parts = []


def _shard(out: Path, s: int) -> Path:
    return out / "shards" / f"{s:08d}.safetensors"


def _write_shard(path: Path, parts: list) -> None:
    """One file for features, rows, hashes and failures, so that one rename makes it whole."""
    arrays = [tokens for _, tokens, _, _ in parts if tokens is not None]
    features = np.concatenate(arrays) if arrays else np.empty((0, 0, 0, 0), np.float16)
    rows = np.array([row for part in parts for row in part[0]], dtype=np.int64)
    failures = {row: reason for part in parts for row, reason in part[3].items()}
    about = {
        "hashes": json.dumps([h for part in parts for h in part[2]]),
        "failures": json.dumps(failures),
    }
    partial = path.with_suffix(".partial")
    save_file({"features": features, "rows": rows}, partial, metadata=about)
    os.replace(partial, path)


def _join(images: Images, out: Path, parameters: dict) -> None:
    """Put all shards into one file, then the manifest, then ``store.json``; drop the shards."""
    shards = sorted((out / "shards").glob("*.safetensors"))
    rows: list[int] = []
    hashes: list[str] = []
    failures: dict[int, str] = {}
    shape: tuple[int, ...] = ()
    for path in shards:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata()
            rows += file.get_tensor("rows").tolist()
            hashes += json.loads(about["hashes"])
            failures |= {int(row): reason for row, reason in json.loads(about["failures"]).items()}
            one = file.get_slice("features").get_shape()
            shape = tuple(one[1:]) if one[0] else shape
    if not rows:
        shutil.rmtree(out)
        raise SourceError(_none_readable(images, failures))
    partial = out / "features.partial"
    joined = np.lib.format.open_memmap(partial, "w+", np.float16, (len(rows), *shape))
    start = 0
    for path in shards:
        with safe_open(path, framework="numpy") as file:
            features = file.get_tensor("features")
        joined[start : start + len(features)] = features if len(features) else 0
        start += len(features)
    joined.flush()
    del joined
    os.replace(partial, out / "features.npy")
    _write_manifest(images, out, rows, hashes)
    write_failures(out / "failures.csv", [(images.keys[r], failures[r]) for r in sorted(failures)])
    _write_json(out / "store.json", parameters)
    (out / "progress.json").unlink()
    shutil.rmtree(out / "shards")


def _none_readable(images: Images, failures: dict[int, str]) -> str:
    first = "; ".join(f"{images.keys[row]}: {failures[row]}" for row in sorted(failures)[:3])
    return f"None of the {len(images)} images could be read. {first}"


def _write_manifest(images: Images, out: Path, rows: list[int], hashes: list[str]) -> None:
    stats = [images.stat(row) for row in rows]
    keys = [images.keys[row] for row in rows]
    table = pa.table(
        {
            "row": pa.array(range(len(rows)), pa.int64()),
            "path": pa.array(keys, pa.string()),
            "size": pa.array([size for size, _ in stats], pa.int64()),
            "mtime": pa.array([mtime for _, mtime in stats], pa.float64()),
            "hash": pa.array(hashes, pa.string()),
            "label": pa.array(folder_labels(keys) or [None] * len(keys), pa.string()),
        }
    )
    partial = out / "manifest.partial"
    pq.write_table(table, partial)
    os.replace(partial, out / "manifest.parquet")


def write_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    """Write (path, reason) rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "reason"))
        writer.writerows(failures)


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}). {_ADVICE}") from error


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
