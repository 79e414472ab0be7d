"""What keeps a fit and the process that calls it from changing each other.

In: whatever gradient mode, precision and random state the caller has.
Out: the same computation under all of them, and they are left as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# What the networks' parameters are drawn with.
_DRAWN = {
    torch.randn,
    Tensor.normal_,
    Tensor.uniform_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.trunc_normal_,
    nn.init.uniform_,
    nn.init.xavier_uniform_,
}


@contextmanager
def own_settings() -> Iterator[None]:
    """Gradients on, no autocast, new tensors on the CPU: torch's own defaults, in this thread."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
        torch.device("cpu"),
    ):
        yield


class DrawnFrom(TorchFunctionMode):
    """Within it, modules draw their first weights from ``generator``.

    Seeding torch's own generator instead would be seen by every other thread.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in _DRAWN and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
