"""Every view of every image through the frozen encoder, once, onto disk.

In: n images and an encoder.
Out: a feature store: a folder with ``features.npy`` (n, v, t, d) float16, ``manifest.parquet`` with
one row per readable image, ``failures.csv`` with the others, ``warnings.csv`` with what was wrong
with readable ones, ``skipped.csv`` with what was never read and, written last, ``store.json``.

While it is being made, each finished shard of images is one file under ``shards/``, renamed into
place when whole. Interrupted at any moment, the same call goes on from there, to the same bytes.
"""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mfavbs.devices import pick_device
from mfavbs.encoders import Encoder
from mfavbs.errors import SourceError, StoreError
from mfavbs.features.reading import ImageViews, may_have_workers, parts_of
from mfavbs.features.shards import (
    SECONDS,
    SHARD,
    Part,
    forward_size,
    join_shards,
    missing_rows,
    write_shard,
)
from mfavbs.features.store import SCHEMA, FeatureStore, check_store
from mfavbs.files import read_json, user_path, write_json
from mfavbs.images import (
    IMAGE_MEMORY,
    Images,
    Range,
    Views,
    checked_range,
    content_hash,
    measure_range,
    recorded_range,
)
from mfavbs.locking import alone_in
from mfavbs.progress import Progress

_CORES_A_WORKER = 4  # on a CPU: views of an image take 5 ms to draw, 20 to encode with MobileNetV2


def embed(
    images: Images,
    out: str | Path,
    encoder: Encoder,
    *,
    n_views: int = 5,
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    device: str = "auto",
    n_workers: int | None = None,
    verbose: bool = True,
) -> FeatureStore:
    """Encode ``n_views`` views of every image into the feature store ``out``, or finish it.

    Parameters
    ----------
    images
        From :func:`mfavbs.open_images`.
    out
        Folder of the store. A finished one made with the same parameters is returned as it is,
        an unfinished one goes on from its last whole shard. Until it is finished it takes twice
        the space.
    encoder
        From :func:`mfavbs.load_encoder`.
    n_views
        v >= 1, the clean view counted in.
    seed
        Of the augmentations.
    value_range
        Grey values that become black and white, in images of one channel and more than 8 bits:
        ``"type"``, all that the file's type can hold; (low, high); or ``"auto"``, measured on up
        to 64 of the images when the store is begun.
    image_memory
        Megabytes that decoding one image may take; larger ones stand in ``failures.csv``.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    n_workers
        Processes that decode and augment; 0 does both in this one. By default so many that the
        encoder need not wait for them.
    verbose
        Show progress on stderr.

    Raises
    ------
    StoreError
        ``out`` was made with other parameters or cannot be written, or a worker died.
    SourceError
        No image could be read.
    EncoderError
        There is no such device, or a feature is not a number that float16 holds.
    """
    out = user_path(out)
    may_have_workers()  # before the lock
    if n_views < 1:
        raise SourceError(f"n_views={n_views} should be >= 1")
    encoder.to_device(pick_device(device))
    views = Views(
        encoder.image_size,
        n_views,
        seed,
        augmentation=encoder.augmentation,
        framing=encoder.framing,
    )
    decoding = _decoding(images, out, checked_range(value_range), image_memory)
    parameters = _parameters(images, recipe(encoder, views) | decoding)
    check_store(out, parameters)
    with alone_in(out, StoreError):
        try:
            if _begin(out, parameters):
                rows = ImageViews(images, views, recorded_range(parameters), image_memory)
                _write_missing_shards(rows, out, encoder, n_workers, verbose)
                join_shards(images, out, parameters)
            _tidy(out)
        except SourceError:  # nothing was readable: leave nothing behind
            _tidy(out)
            raise
        except OSError as error:
            raise StoreError(
                f"the feature store {out} cannot be written: {error.strerror or error}; finished "
                "shards stay good: make room or mend the folder and run the same command again, or "
                "choose another out="
            ) from error
    return FeatureStore.open(out)


def _decoding(
    images: Images, out: Path, value_range: str | Range, image_memory: int
) -> dict[str, Any]:
    """How images are decoded, as the store records it; what was once measured is kept."""
    if isinstance(value_range, tuple):
        return {"range_rule": "given", "range": list(value_range), "image_memory": image_memory}
    found: Any = "type"
    if value_range == "auto":
        begun = read_json(out / "store.json") or read_json(out / "progress.json") or {}
        if begun.get("range_rule") == "auto":
            found = begun["range"]
        else:
            measured = measure_range(images, image_memory)
            found = "type" if measured is None else list(measured)
    return {"range_rule": value_range, "range": found, "image_memory": image_memory}


def recipe(encoder: Encoder, views: Views) -> dict[str, Any]:
    """All that decides an image's features beside the image: names and plain values, as for JSON.

    Two stores with equal recipes hold equal features of equal images.
    """
    return encoder.recipe | views.recipe


def _parameters(images: Images, recipe: dict[str, Any]) -> dict[str, Any]:
    """All that decides the bytes of a store, in the order in which a mismatch is reported."""
    listing = hashlib.blake2b(digest_size=16)
    for row, key in enumerate(images.keys):
        listing.update(f"{key}\0{images.stat(row)}\n".encode())
    if images.kind == "array":
        for row in range(len(images)):
            listing.update(content_hash(images.read(row)).encode())
    return {
        "schema": SCHEMA,
        **recipe,
        "source": {"kind": images.kind, "location": images.location},
        "n_candidates": len(images),
        "listing_hash": listing.hexdigest(),
    }


def _begin(out: Path, wanted: dict[str, Any]) -> bool:
    """Whether there is work left in ``out``; refuses a store made with other parameters."""
    check_store(out, wanted)
    if (out / "store.json").exists():
        return False
    (out / "shards").mkdir(parents=True, exist_ok=True)
    if not (out / "progress.json").exists():
        write_json(out / "progress.json", wanted)
    return True


def _tidy(out: Path) -> None:
    """Remove what a finished store needs no more, and what a kill may have left of it."""
    (out / "progress.json").unlink(missing_ok=True)
    shutil.rmtree(out / "shards", ignore_errors=True)
    for partial in out.glob("*.partial"):
        partial.unlink()


def batch_size(encoder: Encoder, n_views: int) -> int:
    """How many images, with ``n_views`` views each, :func:`embed` encodes at a time.

    So many that their views fill whole forward passes, but for one view in twenty at most.
    """
    size = forward_size(encoder)
    step = max(1, size // n_views)
    while -step * n_views % size > size // 20:
        step += 1
    return step


def _write_missing_shards(
    rows_to_views: ImageViews, out: Path, encoder: Encoder, n_workers: int | None, verbose: bool
) -> None:
    images = rows_to_views.images
    device = encoder.device.type
    step = batch_size(encoder, rows_to_views.views.n_views)
    missing = missing_rows(out, len(images))
    batches = [rows[i : i + step] for rows in missing for i in range(0, len(rows), step)]
    done = len(images) - sum(map(len, missing))
    if n_workers is None:
        n_workers = min(len(batches), _n_workers(device)) if may_have_workers() else 0
    with (
        parts_of(rows_to_views, batches, n_workers) as parts,
        Progress("embedding", len(images), "images", done, show=verbose) as progress,
        _encoder_threads(device, n_workers),
    ):
        shard: list[Part] = []
        began = time.monotonic()
        for i, part in enumerate(parts):
            part.encode(encoder, images)
            shard.append(part)
            progress.advance(part.n)
            # What a kill may cost is so many seconds' work, however slow the encoder is.
            full = sum(p.n for p in shard) >= SHARD or time.monotonic() - began > SECONDS
            if full or i + 1 == len(batches) or batches[i + 1].start != batches[i].stop:
                write_shard(out, shard)
                shard, began = [], time.monotonic()


def _n_workers(device: str) -> int:
    # An accelerator leaves the cores to the workers; on a CPU the encoder needs most of them.
    return max(1, _n_cores() // _CORES_A_WORKER if device == "cpu" else _n_cores() - 1)


def _n_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # what a container or a job has been given
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def _encoder_threads(device: str, n_workers: int) -> Iterator[None]:
    """Leave the workers their cores: with threads that wait for each other, a core too few costs
    far more than its share (2 busy cores, MobileNetV2: 24 images a second with one thread, 8 with
    two)."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(max(1, min(before, _n_cores() - n_workers)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
