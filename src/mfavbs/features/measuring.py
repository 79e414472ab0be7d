"""How fast the images of a source are read and encoded here, by some of them. Nothing is written.

In: images, an encoder, and a store that may have some of them. Out: how many there are to encode,
the seconds that each takes, and the features of those that were encoded meanwhile.
"""

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mfavbs.devices import pick_device
from mfavbs.encoders import CombinedEncoder, Encoder
from mfavbs.errors import SourceError
from mfavbs.features.cache import FeatureCache
from mfavbs.features.embedding import DRAWN_BY_WORKERS, decoding_of, had_already, recipe, views_for
from mfavbs.features.encoding import Encoding
from mfavbs.features.locally import Work, encoded_here
from mfavbs.features.parts import batch_size
from mfavbs.features.reading import ImageViews
from mfavbs.features.store import FeatureStore, check_store
from mfavbs.images import IMAGE_MEMORY, LOOK, Images, Range, checked_range, recorded_range

_SECONDS = 4.0  # of encoding, from the first part on
_PARTS = 64  # at the most: on an accelerator they are large
_UNMEASURED = 2  # parts in which libraries set themselves up


class Measured(NamedTuple):
    """What encoding the images of a source takes here.

    Attributes
    ----------
    n_new
        Images that are to be read: the store does not have them.
    starting
        Seconds until the first of them are encoded: processes start, libraries are imported.
    each
        Seconds for each image after that.
    readable, cached
        Shares of those looked at: that could be read, and that the cache has.
    features
        (m, v, t, d) float16 of images that were looked at, or that the store has.
    looks
        (m,) of the type `mfavbs.images.LOOK`.
    """

    n_new: int
    starting: float
    each: float
    readable: float
    cached: float
    features: np.ndarray
    looks: np.ndarray | None


def measure(
    images: Images,
    encoder: Encoder | CombinedEncoder,
    out: Path | None = None,
    *,
    n_views: int = 5,
    augment: str = "default",
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    cache: str | Path | None = None,
    device: str = "auto",
    n_workers: int | None = None,
    n_kept: int = 2_000,
) -> Measured:
    """Encode images at random for a few seconds, in the way of :func:`mfavbs.embed`.

    Parameters
    ----------
    images, encoder, n_views, augment, seed, value_range, image_memory, cache, device, n_workers
        As there.
    out
        A store that these images are to be encoded into, finished, begun or not there.
    n_kept
        Features of so many images are given back, at the most.

    Raises
    ------
    StoreError
        ``out`` was made with other parameters, or is no store.
    SourceError
        None of the images looked at could be read.
    EncoderError
        There is no such device.
    """
    encoder.to_device(pick_device(device))
    views = views_for(encoder, n_views, seed, augment)
    decoding = decoding_of(images, out, checked_range(value_range), image_memory)
    made_by = recipe(encoder, views) | decoding
    missing = np.arange(len(images.keys))
    if out is not None:
        check_store(out, made_by)
        kept = had_already(images, out)
        missing = np.array([row for row, key in enumerate(images.keys) if key not in kept], int)
    if not len(missing) and out is not None and (out / "store.json").exists():
        return _from_store(FeatureStore.open(out), n_kept)
    with FeatureCache.open(cache, made_by, writes=False) as shared:
        drawn_here = encoder.device.type in DRAWN_BY_WORKERS
        grey_levels = recorded_range(decoding)
        dataset = ImageViews(
            *(images, views, grey_levels, image_memory, {}, shared), drawn_here=drawn_here
        )
        step = batch_size(encoder, n_views)
        some = missing if len(missing) else np.arange(len(images))
        rows = np.random.default_rng(seed).permutation(some)[: _PARTS * step].tolist()
        batches = [rows[at : at + step] for at in range(0, len(rows), step)]
        work = Work(dataset, batches, Encoding(encoder, views), n_workers)
        return _timed(work, len(missing), n_kept)


def _from_store(store: FeatureStore, n_kept: int) -> Measured:
    """A finished store that has them all: nothing is to be encoded."""
    n, looks = len(store.features), store.looks
    rows = np.linspace(0, n - 1, min(n, n_kept)).round().astype(np.int64)
    some = None if looks is None else looks[rows]
    return Measured(0, 0.0, 0.0, 1.0, 0.0, np.asarray(store.features[rows]), some)


def _timed(work: Work, n_new: int, n_kept: int) -> Measured:
    """Encode parts until the time is up."""
    features: list[np.ndarray] = []
    looks: list[np.ndarray] = []
    done, n_seen, n_read, n_cached = [(time.perf_counter(), 0)], 0, 0, 0
    reasons: dict[str, str] = {}
    with encoded_here(work) as parts:
        for part in parts:
            n_cached += len(part.cached)
            part.take(work.dataset.cache.get(part.cached))
            n_seen += len(part.seen)
            n_read += sum(seen.hash is not None for seen in part.seen)
            reasons |= {seen.key: seen.reason for seen in part.seen if seen.reason}
            if part.features is not None and sum(map(len, features)) < n_kept:
                features.append(part.features)
                looks.append(part.looks)
            done.append((time.perf_counter(), n_seen))
            first = done[min(_UNMEASURED, len(done) - 1)][0]
            if len(done) > 2 * _UNMEASURED and done[-1][0] - first > _SECONDS:
                break
    if not features:
        first_ones = "; ".join(f"{key}: {why}" for key, why in list(reasons.items())[:3])
        raise SourceError(
            f"expected images that can be read, none of {n_seen} looked at can: {first_ones}; "
            "check the source"
        )
    starting, each = _rate(done)
    known = np.concatenate(looks) if looks else np.zeros(0, LOOK)
    shares = (n_read / n_seen, n_cached / n_seen)
    return Measured(
        n_new, starting, each, *shares, np.concatenate(features)[:n_kept], known[:n_kept]
    )


def _rate(done: list[tuple[float, int]]) -> tuple[float, float]:
    """Seconds until work goes on evenly, and for each image, from times and counts."""
    begin, (start, n_start), (end, n_end) = done[0][0], done[0], done[-1]
    if len(done) > 2 * _UNMEASURED:
        start, n_start = done[_UNMEASURED]
    each = (end - start) / max(1, n_end - n_start)
    return max(0.0, start - begin - n_start * each), each
