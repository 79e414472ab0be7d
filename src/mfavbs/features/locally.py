"""The seam behind which images are encoded, and what does so here: one process or
several, as a launcher starts them.

In: the rows of each batch and what reads and encodes them. Out: a part for each batch, in order,
with features. An engine that works elsewhere has the same signature (:mod:`mfavbs.engines`).
"""

import contextlib
import io
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.distributed as dist

from mfavbs.devices import device_of
from mfavbs.features.encoding import Encoding, ahead
from mfavbs.features.parts import Part
from mfavbs.features.reading import ImageViews
from mfavbs.features.workers import encoder_threads, may_have_workers, parts_of, workers_for
from mfavbs.launching import PartedError, Peers, exchanging, peers, sent_to_all

_CPU = torch.device("cpu")
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
    """Parts encoded by this process; by all of its command, in turn, where there are several.

    Raises
    ------
    StoreError
        A process that reads could not be started, died, or gave nothing for ten minutes.
    PartedError
        Another process of the command is gone.
    """
    others = peers()
    if others is None or len(work.batches) < 2:
        with _encoded_by_one(work) as parts:
            yield parts
        return
    content = _packed(work)
    told = {"device": work.encoding.device.type, "length": len(content)}
    name = others.call(join_encoding, **told)
    with others.connected(name, _CPU):
        sent_to_all(content, len(content), _CPU)
        with _encoded_by_one(_part_of(work, others)) as own:
            yield _in_turn(own, others.size, len(work.batches))


def join_encoding(others: Peers, name: str, device: str, length: int) -> None:
    """Encode every n-th batch for the first process, in one of the others.

    Parameters
    ----------
    others
        The processes.
    name
        Of this work.
    device
        Kind of device on which each encodes.
    length
        Bytes of the work.
    """
    # The first says why they have parted, if it still can.
    with contextlib.suppress(PartedError), others.connected(name, _CPU):
        content = sent_to_all(None, length, _CPU)
        try:
            work = _unpacked(content, device_of(device, others.local_rank))
            with _encoded_by_one(_part_of(work, others)) as parts:
                for part in parts:
                    _send(part)
        except PartedError:
            raise
        except Exception as error:
            _send(error)


def _packed(work: Work) -> bytes:
    dataset, batches, encoding, n_workers = work
    reading = pickle.dumps((dataset, batches, encoding.views, n_workers))
    file = io.BytesIO()
    torch.save((encoding.encoder, reading), file)
    return file.getvalue()


def _unpacked(content: bytes, device: torch.device) -> Work:
    # It comes from the first process of this very command, whose code is the same.
    encoder, reading = torch.load(io.BytesIO(content), map_location=device, weights_only=False)
    dataset, batches, views, n_workers = pickle.loads(reading)
    return Work(dataset, batches, Encoding(encoder, views), n_workers)


def _part_of(work: Work, others: Peers) -> Work:
    """What this process does of it: every n-th batch, with its part of the machine's cores."""
    batches = work.batches[others.rank :: others.size]
    n_workers = work.n_workers
    if n_workers is None:
        n_workers = max(1, workers_for(work.encoding.device.type) // others.local_size)
        n_workers = min(len(batches), n_workers) if may_have_workers() else 0
    return work._replace(batches=batches, n_workers=n_workers)


def _in_turn(own: Iterator[Part], size: int, n: int) -> Iterator[Part]:
    """The n parts in order: of the first process, of the second, and so on."""
    for i in range(n):
        yield _received(i % size) if i % size else next(own)


def _send(answer: Part | Exception) -> None:
    content = torch.frombuffer(bytearray(pickle.dumps(answer)), dtype=torch.uint8)
    with exchanging():
        dist.send(torch.tensor([len(content)]), 0)
        dist.send(content, 0)


def _received(rank: int) -> Part:
    with exchanging():
        length = torch.zeros(1, dtype=torch.int64)
        dist.recv(length, rank)
        content = torch.empty(int(length), dtype=torch.uint8)
        dist.recv(content, rank)
    answer = pickle.loads(content.numpy().data)
    if isinstance(answer, Exception):
        raise answer
    return answer


@contextlib.contextmanager
def _encoded_by_one(work: Work) -> Iterator[Iterator[Part]]:
    """Parts read by processes of this machine and encoded by this one."""
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
