"""The steps of a training: their learning rates, and on CUDA each as one launch.

In: a number of steps; a function that makes one from what it is given.
Out: a rate for each; the same function, recorded.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., Tensor]

_WARM_UP = 0.1  # share of the steps in which the rates rise
_FIRST_RATE, _LAST_RATE = 1 / 25, 1e-4 / 25  # of the peak, as torch's OneCycleLR
_FIRST = 3  # steps made as they are: libraries set themselves up in them, which cannot be recorded


def one_cycle(n_steps: int, peak: float) -> Tensor:
    """Learning rates (n_steps,): up by a cosine to the peak in a tenth of the steps, then down.

    Super-convergence (arXiv 1708.07120), from 1/25 of the peak to 1/250,000 of it.
    """
    rise = max(1.0, _WARM_UP * n_steps - 1)
    at = torch.arange(n_steps, dtype=torch.float32)
    up = (at / rise).clamp_max(1)
    down = ((at - rise) / max(1.0, n_steps - 1 - rise)).clamp(0, 1)
    low = torch.where(at < rise, _FIRST_RATE, _LAST_RATE)
    share = torch.where(at < rise, 1 - up, down)  # of the way from the peak to the low
    return peak * (low + (1 - low) * (1 + torch.cos(math.pi * share)) / 2)


def recorded(step: Step, device: torch.device) -> Step:
    """``step``, which on CUDA is recorded as a graph once and then replayed.

    A step is some hundred small operations, and the time to launch each is many times that of
    its arithmetic. Where nothing in it depends on a value or a shape that changes, the recording
    gives the same numbers in one launch. On other devices the step is returned as it is.

    Parameters
    ----------
    step
        Of tensors of always the same shape, type and device; its answer likewise, which the next
        call overwrites. It may read and write other tensors, always the same ones.
    device
        Where it runs.
    """
    return _Recorded(step, device) if device.type == "cuda" else step


class _Recorded:
    def __init__(self, step: Step, device: torch.device) -> None:
        self.step = step
        self.device = device  # not always the one that torch takes where none is named
        self.stream = torch.cuda.Stream(device)
        self.n_made = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> Tensor:
        with torch.cuda.device(self.device):
            return self._make(*given)

    def _make(self, *given: Tensor) -> Tensor:
        if self.n_made < _FIRST:
            self.n_made += 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                answer = self.step(*given)
            torch.cuda.current_stream().wait_stream(self.stream)
            return answer
        if self.graph is None:
            self.given = [tensor.clone() for tensor in given]
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.answer = self.step(*self.given)
        for kept, tensor in zip(self.given, given, strict=True):
            kept.copy_(tensor)
        self.graph.replay()
        return self.answer
