"""A training that the processes of one command share: every step is made by all of them.

In: a function that makes steps, and what it is given. Out: steps, as one process makes them.

The first process draws each batch and sends it to the others. Each passes its part of the rows
through the network, and what comes out is gathered: every process has the losses of the whole
batch, with all their negatives and whole columns of clusters. Their gradients by way of its own
part, added up over the processes, are those of the whole batch, so that all make the same step.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mfavbs.devices import device_of
from mfavbs.errors import SourceError
from mfavbs.launching import PartedError, Peers, exchanging, peers, sent_to_all
from mfavbs.model.stepping import Step

_END = -1.0  # in place of a learning rate


class Share(NamedTuple):
    """The part of a batch that one process has: of ``size`` of them, the one of this ``rank``."""

    rank: int
    size: int

    def part(self, whole: Tensor) -> Tensor:
        """Its rows of what has a row for each pair, (n, ...) -> (m, ...)."""
        if self.size == 1:
            return whole
        start, stop = self._bounds(len(whole))
        return whole[start:stop]

    def whole(self, part: Tensor, n: int, dim: int = 0) -> Tensor:
        """The parts of all processes, in order, n of them along ``dim``.

        Gradients flow back into this process's own part, and not into those of others, which
        every process has of its own.
        """
        if self.size == 1:
            return part
        start, stop = self._bounds(n)
        shape = list(part.shape)
        shape[dim] = n
        # Added up with zeros: parts may be of different lengths, and every backend can do it.
        found = part.new_zeros(shape)
        found.narrow(dim, start, stop - start).copy_(part.detach())
        with exchanging():
            dist.all_reduce(found)
        before, after = found.narrow(dim, 0, start), found.narrow(dim, stop, n - stop)
        return torch.cat([before, part, after], dim)

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum of those that the processes have."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with exchanging():
            dist.all_reduce(total)
        for gradient, summed in zip(gradients, total.split([g.numel() for g in gradients])):
            gradient.copy_(summed.view_as(gradient))

    def _bounds(self, n: int) -> tuple[int, int]:
        return n * self.rank // self.size, n * (self.rank + 1) // self.size


ALONE = Share(0, 1)


@contextmanager
def shared(
    make: Callable[..., Step], network: nn.Module, *given: Any, **more: Any
) -> Iterator[Step]:
    """The step that ``make(network, *given, **more)`` makes, by all processes of the command.

    Parameters
    ----------
    make
        A function of a module. Of several processes each calls it, with its ``share=`` besides.
    network
        What is trained; the other processes get a copy.
    *given, **more
        What can be pickled.

    Yields
    ------
    Step
        Of the rate and of other tensors of always the same shapes. All but the first two have a
        row for each pair.

    Raises
    ------
    SourceError
        If a batch has fewer rows than there are processes.
    MfavbsError
        If one of the processes is gone.
    """
    others = peers()
    if others is None or not _can_be_shared(network):
        yield make(network, *given, **more)
        return
    leading = _Leading(others, make, (network, *given), more)
    try:
        yield leading
    finally:
        leading.end()


def _can_be_shared(network: nn.Module) -> bool:
    """Whether a part of a batch goes through the network as it does within the whole."""
    device = next(network.parameters()).device.type
    if device not in ("cpu", "cuda"):
        reason = f"the processes cannot exchange tensors of {device}"
    elif any(isinstance(module, _BatchNorm) for module in network.modules()):
        reason = "its batch normalisation needs whole batches"
    else:
        return True
    warnings.warn(f"The first process trains alone here: {reason}.", stacklevel=4)
    return False


class _Leading:
    """Steps as the first process makes them, with the others."""

    def __init__(self, others: Peers, make: Callable, given: tuple, more: dict) -> None:
        self.others, self.asked = others, (make, given, more)
        self.step = make(*given, **more, share=Share(0, others.size))
        self.group = ExitStack()
        self.begun = False
        self.agreed = False  # whether all wait for the next step

    def __call__(self, *given: Tensor) -> Tensor:
        if not self.begun:
            self._begin(given)
        self.agreed = False
        with exchanging():
            for tensor in given:
                dist.broadcast(tensor.contiguous(), 0)
        answer = self.step(*given)
        self.agreed = True
        return answer

    def _begin(self, given: tuple[Tensor, ...]) -> None:
        size, rows, device = self.others.size, len(given[-1]), given[-1].device
        if rows < size:
            raise SourceError(
                f"A batch of {rows} pairs cannot be shared by {size} processes. Start {rows} of "
                "them at most, or add images."
            )
        file = io.BytesIO()
        torch.save(self.asked, file)
        content = file.getvalue()
        told = [[list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for tensor in given]
        about = {"device": device.type, "given": told, "length": len(content)}
        name = self.others.call(join_training, **about)
        self.group.enter_context(self.others.connected(name, device))
        sent_to_all(content, len(content), device)
        self.begun, self.rate = True, given[0]

    def end(self) -> None:
        """Tell the others that this was the last step."""
        with self.group, suppress(RuntimeError):  # they may be gone already
            if self.agreed:
                dist.broadcast(torch.full_like(self.rate, _END), 0)


def join_training(others: Peers, name: str, device: str, given: list, length: int) -> None:
    """Make the steps of a training with the first process, in one of the others.

    Parameters
    ----------
    others
        The processes.
    name
        Of this training.
    device
        Kind of device on which each trains.
    given
        Shape and type of each tensor that a step is given.
    length
        Bytes of what the step is made of.
    """
    place = device_of(device, others.local_rank)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    # The first says why they have parted, if it still can.
    with suppress(PartedError), others.connected(name, place):
        # It comes from the first process of this very command, whose code is the same.
        sent = io.BytesIO(sent_to_all(None, length, place))
        make, asked, more = torch.load(sent, map_location=place, weights_only=False)
        step = make(*asked, **more, share=Share(others.rank, others.size))
        batch = [torch.empty(s, dtype=getattr(torch, t), device=place) for s, t in given]
        while True:
            with exchanging():
                for tensor in batch:
                    dist.broadcast(tensor, 0)
                    if tensor is batch[0] and float(tensor) == _END:
                        return
            step(*batch)
