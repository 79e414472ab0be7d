"""Every view of every image through the frozen encoder, once, onto disk.

In: n images and an encoder.
Out: a feature store (:mod:`mfavbs.features.store`) that holds these images: what it has already, by
content, is kept; what is new is encoded; what is gone is left out.

While new images are encoded, what is finished lies under ``pieces/``. Interrupted at any moment the
store is what it was, and the same call goes on from there, to the same bytes.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfavbs.devices import pick_device
from mfavbs.encoders import CombinedEncoder, Encoder
from mfavbs.errors import SourceError, StoreError
from mfavbs.features.cache import FeatureCache
from mfavbs.features.elsewhere import check_writable, location_of, store_folder
from mfavbs.features.encoding import Encoding
from mfavbs.features.listing import compare
from mfavbs.features.locally import Engine, Work, encoded_here
from mfavbs.features.parts import Part, batch_size
from mfavbs.features.pieces import PIECES, Pieces, Seen
from mfavbs.features.reading import ImageViews
from mfavbs.features.sending import in_step
from mfavbs.features.state import read_seen, segment_places, tidy, write_state
from mfavbs.features.store import SCHEMA, FeatureStore, check_store
from mfavbs.features.watching import Foretell, Watch
from mfavbs.features.workers import may_have_workers
from mfavbs.files import read_json, write_json
from mfavbs.images import (
    IMAGE_MEMORY,
    Images,
    Range,
    Views,
    checked_range,
    measure_range,
    recorded_range,
    views_of,
)
from mfavbs.launching import together
from mfavbs.locking import alone_in
from mfavbs.progress import Progress, say

DRAWN_BY_WORKERS = ("cpu",)  # an accelerator draws views itself, faster than it encodes them


@together()
def embed(
    images: Images,
    out: str | Path,
    encoder: Encoder | CombinedEncoder,
    *,
    n_views: int = 5,
    augment: str = "default",
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    update: bool = True,
    verify: bool = False,
    cache: str | Path | None = None,
    device: str = "auto",
    n_workers: int | None = None,
    engine: Engine = encoded_here,
    foretell: Foretell | None = None,
    verbose: bool = True,
) -> FeatureStore:
    """Encode ``n_views`` views of every image into the feature store ``out``, or update it.

    Parameters
    ----------
    images
        From :func:`mfavbs.open_images`.
    out
        Folder of the store, or its URL, s3:// for one, which is written by way of a copy in the
        cache. One that was made in the same way from the same source is brought up to date: images
        that it holds are known by their content, whatever their names, and are not encoded again.
        An unfinished one goes on from where it was.
    encoder
        From :func:`mfavbs.load_encoder`, of one or of several.
    n_views
        v >= 1, the clean view counted in; 1 where ``augment`` is ``"none"``.
    augment
        How far the other views go from the image, see :class:`mfavbs.images.Views`: ``"default"``,
        ``"gentle"``, ``"strong"``, ``"rotate"`` or ``"none"``.
    seed
        Of the augmentations.
    value_range
        Grey values that become black and white, in images of one channel and more than 8 bits:
        ``"type"``, all that the file's type can hold; (low, high); or ``"auto"``, measured on up
        to 64 of the images when the store is begun.
    image_memory
        Megabytes that decoding one image may take; larger ones stand in ``failures.csv``.
    update
        False raises where the source has changed since the store was made.
    verify
        Read every file, where otherwise one of the same name, size and date is taken for the same.
    cache
        Folder of features that runs share: by content and all that decides a value, so that
        another output folder, a sub-folder or a copy of the images is not encoded again.
        ``"auto"`` is the operating system's place for caches; None is what the environment variable
        ``MFAVBS_CACHE`` says, and no cache where it says nothing; ``"off"`` is none in any case.
        A cache that cannot be read or written is done without, with a warning.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    n_workers
        Processes that decode and augment; 0 does both in this one. By default so many that the
        encoder need not wait for them.
    engine
        What reads and encodes; by default this machine, see :mod:`mfavbs.engines` for others. The
        store is the same, and a call that was interrupted may go on by another.
    foretell
        Called once, when encoding has gone on for some seconds: with the seconds that all of it
        will take, and the shape (v, t, d) of an image's features.
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
    check_writable(out)
    out = store_folder(out)
    may_have_workers()  # before the lock
    n_views = views_of(augment, n_views)
    encoder.to_device(pick_device(device))
    views = views_for(encoder, n_views, seed, augment)
    check_store(out, {})
    with alone_in(out, StoreError), _explained(out), in_step(out, verbose=verbose) as check:
        decoding = decoding_of(images, out, checked_range(value_range), image_memory)
        made_by = recipe(encoder, views) | decoding
        about = {
            "schema": SCHEMA,
            **made_by,
            "source": {"kind": images.kind, "location": images.location},
        }
        former = _begin(out, about)
        made = FeatureStore.open(out) if former else None  # says so where it is damaged
        before = read_seen(out, former) if former else {}
        diff = compare(before, ((key, images.stat(row)) for row, key in enumerate(images.keys)))
        if former and diff and not update:
            where = location_of(out)
            raise StoreError(f"the source of {where} has changed ({diff}); update=True takes it in")
        if former and diff and verbose:
            say(f"Since {location_of(out)} was made: {diff}")
        read_all = verify or images.kind == "array"  # an array has neither sizes nor dates
        if made is None or diff or read_all or made.skipped != images.skipped:
            pieces = Pieces.open(out / PIECES)
            kept = {} if read_all else _kept(images, before | pieces.seen)
            known = _known(out, former, before, pieces)
            missing = [row for row, key in enumerate(images.keys) if key not in kept]
            with FeatureCache.open(cache, made_by) as shared:
                grey_levels = recorded_range(about)
                drawn_here = encoder.device.type in DRAWN_BY_WORKERS
                dataset = ImageViews(
                    *(images, views, grey_levels, image_memory, known, shared),
                    drawn_here=drawn_here,
                )
                _encode(dataset, missing, encoder, pieces, n_workers, engine, foretell, verbose)
            check()
            write_state(out, images, about, pieces.seen | kept, former, pieces)
        tidy(out)
    return FeatureStore.open(out)


def views_for(encoder: Encoder | CombinedEncoder, n_views: int, seed: int, augment: str) -> Views:
    """The views of an image as this encoder is to see them."""
    return Views(
        encoder.image_size,
        n_views,
        seed,
        augment=augment,
        augmentation=encoder.augmentation,
        framing=encoder.framing,
    )


def recipe(encoder: Encoder | CombinedEncoder, views: Views) -> dict[str, Any]:
    """All that decides an image's features beside the image: names and plain values, as for JSON.

    Two stores with equal recipes hold equal features of equal images.
    """
    return encoder.recipe | views.recipe


def decoding_of(
    images: Images, out: Path | None, value_range: str | Range, image_memory: int
) -> dict[str, Any]:
    """How images are decoded, as a store records it; what was once measured for it is kept."""
    if isinstance(value_range, tuple):
        return {"range_rule": "given", "range": list(value_range), "image_memory": image_memory}
    found: Any = "type"
    if value_range == "auto":
        begun = {}
        if out is not None:
            begun = read_json(out / "store.json") or read_json(out / "progress.json") or {}
        if begun.get("range_rule") == "auto":
            found = begun["range"]
        else:
            measured = measure_range(images, image_memory)
            found = "type" if measured is None else list(measured)
    return {"range_rule": value_range, "range": found, "image_memory": image_memory}


def _begin(out: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """``store.json`` as it is, or None; refuses a store made with other parameters."""
    check_store(out, wanted)
    finished = read_json(out / "store.json")
    if finished is None and not (out / "progress.json").exists():
        write_json(out / "progress.json", wanted)
    return finished


def _kept(images: Images, seen: Mapping[str, Seen]) -> dict[str, Seen]:
    """What is known of the candidates whose size and date are as they were."""
    found = {}
    for row, key in enumerate(images.keys):
        if key in seen and seen[key].stat == images.stat(row):
            found[key] = seen[key]
    return found


def had_already(images: Images, out: Path) -> dict[str, Seen]:
    """What the store ``out``, finished or begun, knows of candidates that are as they were."""
    former = read_json(out / "store.json")
    before = read_seen(out, former) if former else {}
    return _kept(images, before | Pieces.open(out / PIECES).seen)


def _known(
    out: Path, former: dict[str, Any] | None, before: Mapping[str, Seen], pieces: Pieces
) -> dict[str, str | None]:
    """Content hash -> note, of all contents whose features are had."""
    places = segment_places(out, former["segments"]) if former else {}
    notes = {row.hash: row.warning for row in (*before.values(), *pieces.seen.values())}
    return {content: notes.get(content) for content in (*places, *pieces.place)}


def _encode(
    dataset: ImageViews,
    rows: Sequence[int],
    encoder: Encoder | CombinedEncoder,
    pieces: Pieces,
    n_workers: int | None,
    engine: Engine,
    foretell: Foretell | None,
    verbose: bool,
) -> None:
    """Put what comes of ``rows`` into ``pieces``."""
    n, step = len(dataset.images), batch_size(encoder, dataset.views.n_views)
    batches = [rows[i : i + step] for i in range(0, len(rows), step)]
    encoding = Encoding(encoder, dataset.views)
    watch = Watch(foretell, len(rows))
    with (
        engine(Work(dataset, batches, encoding, n_workers)) as encoded,
        Progress("embedding", n, "images", n - len(rows), show=verbose) as progress,
    ):
        try:
            for part, some in zip(encoded, batches):
                for made in _with_cached(part, some, dataset, encoding):
                    pieces.add(made.seen, made.hashes, made.features, made.looks)
                    progress.advance(len(made.seen))
                    watch(made)
                if pieces.flushed:
                    dataset.cache.flush()
        finally:
            pieces.flush()
            dataset.cache.flush()


def _with_cached(
    part: Part, rows: Sequence[int], dataset: ImageViews, encoding: Encoding
) -> Iterator[Part]:
    """The part, and what the cache has of it; another of what the cache could not give."""
    cache, keys = dataset.cache, dataset.images.keys

    def kept(part: Part) -> Part:
        notes = {seen.hash: seen.warning for seen in part.seen}
        cache.put(part.hashes, part.features, notes, part.looks)
        return part

    lost = kept(part).take(cache.get(part.cached))
    yield part
    if lost:
        again = Part([dataset.item(i, cached=False) for i in rows if keys[i] in lost])
        yield kept(encoding.encode(again))


@contextlib.contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except SourceError:  # nothing was readable: leave nothing behind
        tidy(out)
        raise
    except OSError as error:
        raise StoreError(
            f"the feature store {out} cannot be written: {error.strerror or error}; what is "
            "finished is kept: make room or mend the folder and run the same command again, or "
            "choose another out="
        ) from error
