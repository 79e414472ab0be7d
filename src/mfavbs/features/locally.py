"""The seam behind which images are encoded, and what does so on this machine.

In: the rows of each batch and what reads and encodes them. Out: a part for each batch, in order,
with features. An engine that works elsewhere has the same signature (:mod:`mfavbs.engines`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from mfavbs.features.encoding import Encoding, ahead
from mfavbs.features.parts import Part
from mfavbs.features.reading import ImageViews
from mfavbs.features.workers import encoder_threads, may_have_workers, parts_of, workers_for

_AHEAD = 4  # parts that are encoded while the one before is written


class Work(NamedTuple):
    """What an engine is given.

    Attributes
    ----------
    dataset
        Reads an image and draws its views, or their base, by its row.
    batches
        Rows of each part; the last one may be smaller.
    encoding
        The encoder at work, on this process' device.
    n_workers
        Processes that were asked for, or None.
    """

    dataset: ImageViews
    batches: Sequence[Sequence[int]]
    encoding: Encoding
    n_workers: int | None


# The parts in the order of the batches, made a bounded number ahead of who takes them. What was
# begun ends with the context, however it ends. Every forward pass has the size of the encoding's.
Engine = Callable[[Work], contextlib.AbstractContextManager[Iterator[Part]]]


@contextlib.contextmanager
def encoded_here(work: Work) -> Iterator[Iterator[Part]]:
    """Parts read by processes of this machine and encoded by this one.

    Raises
    ------
    StoreError
        A process could not be started, died, or gave nothing for ten minutes.
    """
    device, n_workers = work.encoding.device.type, work.n_workers
    if n_workers is None:
        n_workers = min(len(work.batches), workers_for(device)) if may_have_workers() else 0
    pinned = device == "cuda"
    with (
        ThreadPoolExecutor(1) as pool,  # ends after the workers that it waits for
        parts_of(work.dataset, work.batches, n_workers, pinned=pinned) as parts,
        encoder_threads(device, n_workers),
    ):
        encoded = work.encoding.encoded(parts)
        if n_workers and not work.dataset.drawn_here:  # else this thread reads, by way of the cache
            encoded = ahead(pool, encoded, _AHEAD)
        try:
            yield encoded
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
