"""One training step, and on CUDA all of it as one launch.

In: a function that makes a step from what it is given. Out: the same, recorded.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[..., Tensor]

_FIRST = 3  # steps made as they are: libraries set themselves up in them, which cannot be recorded


def recorded(step: Step, device: torch.device) -> Step:
    """``step``, which on CUDA is recorded as a graph once and then replayed.

    A step is some hundred small operations, and the time to launch each is many times that of
    its arithmetic. Where nothing in it depends on a value or a shape that changes, the recording
    gives the same numbers in one launch. On other devices the step is returned as it is.

    Parameters
    ----------
    step
        Of tensors of always the same shape, type and device; its answer likewise. It may read and
        write other tensors, always the same ones.
    device
        Where it runs.
    """
    return _Recorded(step) if device.type == "cuda" else step


class _Recorded:
    def __init__(self, step: Step) -> None:
        self.step = step
        self.stream = torch.cuda.Stream()
        self.n_made = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *given: Tensor) -> Tensor:
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
