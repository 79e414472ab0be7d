"""Several processes of one command, as a launcher such as torchrun starts them.

In: the environment's variables. Out: the first process does the work; the others wait for it, call
what it has them call, and end when it is done.
"""

import itertools
import json
import os
import pkgutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mfavbs.devices import is_out_of_memory
from mfavbs.errors import MfavbsError

if TYPE_CHECKING:  # what one process does waits for no torch
    import torch

_MEETING = timedelta(minutes=5)  # in which processes that are started together have found another
_PATIENCE = timedelta(hours=1)  # for a checkpoint, say; the end of a process is seen at once
_GLANCE = 0.1  # seconds between two looks at whether there is something to do


class PartedError(MfavbsError):
    """The processes of one command have lost each other."""


class Peers:
    """The processes of one command, and the store through which they find each other.

    Parameters
    ----------
    rank, size
        Which of how many processes this one is.
    store
        A ``torch.distributed.Store`` that all of them see.

    Attributes
    ----------
    local_rank, local_size
        The same among those of this machine, as the launcher says.
    busy
        Whether they are at a call, and so not there for another one.
    over
        Whether the others were told that they may end.
    """

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self.store = rank, size, store
        self.local_rank = int(os.environ.get("LOCAL_RANK", rank))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
        self.busy = self.over = False
        self._numbers = itertools.count()

    def call(self, function: Callable[..., None], **told: Any) -> str:
        """Have every other process call a function of a module: with itself, a name and ``told``.

        The name is the call's own, and is returned. What is told is told as JSON.
        """
        name = f"mfavbs-{next(self._numbers)}"
        where = f"{function.__module__}:{function.__qualname__}"
        self.store.set(name, json.dumps({"function": where, "told": told}))
        return name

    @contextmanager
    def connected(self, name: str, device: "torch.device") -> Iterator[None]:
        """Within it, ``torch.distributed`` has a group of all processes, for one call.

        It exchanges by NCCL if each has a CUDA device of its own, else by Gloo.

        Parameters
        ----------
        name
            Of the call.
        device
            Where this process has what is exchanged.
        """
        import torch.distributed as dist

        places = self._meet(name, _place_of(device))
        own = device.type == "cuda" and len(set(places)) == len(places)
        with exchanging():
            dist.init_process_group(
                "nccl" if own and dist.is_nccl_available() else "gloo",
                store=dist.PrefixStore(name, self.store),
                rank=self.rank,
                world_size=self.size,
                timeout=_PATIENCE,
            )
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            dist.destroy_process_group()

    def end(self) -> None:
        """Let the others end."""
        self.over = True
        try:
            self.store.set(f"mfavbs-{next(self._numbers)}", "{}")
        except RuntimeError:  # the launcher is gone, and they with it
            return

    def follow(self) -> None:
        """Call what the first process has called, until it is done or gone."""
        for number in itertools.count():
            name = f"mfavbs-{number}"
            try:
                while not self.store.check([name]):
                    time.sleep(_GLANCE)
                call = json.loads(self.store.get(name))
            except RuntimeError:  # the first process had the store, and has ended
                return
            if not call:
                return
            pkgutil.resolve_name(call["function"])(self, name, **call["told"])

    def _meet(self, name: str, said: str) -> list[str]:
        """What every process said, in their order."""
        keys = [f"{name}-{rank}" for rank in range(self.size)]
        try:
            self.store.set(keys[self.rank], said)
            self.store.wait(keys, _MEETING)
        except RuntimeError as error:
            raise PartedError(
                f"Expected {self.size} processes (WORLD_SIZE), and not all of them came within "
                f"{_MEETING.seconds // 60} minutes. Start them all, or unset RANK and WORLD_SIZE "
                "to work in one."
            ) from error
        return [self.store.get(key).decode() for key in keys]


# Of this thread: one that trains something of its own beside it has no others.
_PEERS: ContextVar[Peers | None] = ContextVar("peers", default=None)


def peers() -> Peers | None:
    """The processes to share work with; None in a process that works alone."""
    found = _PEERS.get()
    return None if found is None or found.busy or found.over else found


@contextmanager
def together() -> Iterator[None]:
    """Within it, the first process has others to call; the others follow it and end, with 0.

    Ended with anything else than 0, a launcher would stop the first as well. Where the processes
    cannot find each other, the first works alone.
    """
    rank, size = _place()
    if size == 1 or _PEERS.get() is not None:
        yield
        return
    found = _meet(rank, size)
    if found is None:
        leave_to_first_process()
        yield
        return
    if rank:
        with suppress(KeyboardInterrupt):  # the first says so
            found.follow()
        raise SystemExit(0)
    _PEERS.set(found)
    try:
        yield
    finally:
        found.end()


@contextmanager
def exchanging() -> Iterator[None]:
    """Explain why what all processes do together did not come about.

    Raises
    ------
    PartedError
        One of them is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise PartedError(
            "Another process of this command has ended, or is not reached any more. What is "
            f"finished is kept: the same command goes on from there. ({error})"
        ) from error


def sent_to_all(content: bytes | None, length: int, device: "torch.device") -> bytes:
    """What the first process has, in each of them; the others have None."""
    import torch
    import torch.distributed as dist

    # A copy, as what torch has may be written to.
    whole = torch.frombuffer(bytearray(content or length), dtype=torch.uint8).to(device)
    with exchanging():
        dist.broadcast(whole, 0)
    return whole.cpu().numpy().tobytes()


def leave_to_first_process() -> None:
    """End this process, with 0, unless it is the first of those that a launcher started.

    Several would do the same, each into the same folder. The first forgets the others, and so do
    the processes that it starts.
    """
    rank, size = _place()
    if rank:
        print(
            f"Process {rank} of {size} (RANK of WORLD_SIZE): this is done by one process, the "
            "first; this one ends.",
            file=sys.stderr,
        )
        raise SystemExit(0)
    if size > 1:
        del os.environ["RANK"], os.environ["WORLD_SIZE"]


def _place_of(device: "torch.device") -> str:
    """A name that no other device has, on whichever machine."""
    place = f"{socket.gethostname()} {device.type}"
    if device.type != "cuda":
        return place
    import torch

    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", index)  # torch 2.4 may not tell
    return f"{place} {uuid}"


def _place() -> tuple[int, int]:
    """Rank of this process, and how many there are; (0, 1) where no launcher says so."""
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdecimal() and size.isdecimal() and int(rank) < int(size):
        return int(rank), int(size)
    return 0, 1


def _meet(rank: int, size: int) -> Peers | None:
    """The processes that were started together; None if they cannot find each other."""
    if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    import torch.distributed as dist

    if not dist.is_available() or dist.is_initialized():  # a caller's own groups stay its own
        return None
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", timeout=_MEETING))
    except (RuntimeError, ValueError) as error:
        raise MfavbsError(
            f"Process {rank} of {size} (RANK of WORLD_SIZE) did not reach the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} (MASTER_ADDR, MASTER_PORT). "
            "Start all of them, as torchrun does, or unset RANK and WORLD_SIZE to work in one."
        ) from error
    return Peers(rank, size, store)
