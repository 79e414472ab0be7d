"""Where tensors live: which devices there are, and what is fast on them.

In: a device's name. Out: a `torch.device` that exists here.
"""

from typing import TYPE_CHECKING

from mfavbs.errors import EncoderError

if TYPE_CHECKING:  # a wrong name is told before torch, which takes seconds, is imported
    import numpy as np
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def check_device(device: str) -> None:
    """Refuse what is the name of no device; whether there is one is :func:`pick_device`'s.

    Raises
    ------
    EncoderError
        It is not one of :data:`DEVICES`, with a number behind it or without.
    """
    kind, colon, number = str(device).partition(":")
    if kind not in DEVICES or (colon and (kind == "auto" or not number.isdecimal())):
        raise EncoderError(
            f"device={device!r} should be auto or one of {', '.join(DEVICES[1:])}, or one of them "
            "with its number, as cuda:1"
        )


def pick_device(device: str = "auto") -> "torch.device":
    """``auto`` is CUDA, Apple's MPS or the CPU, in this order; anything else is torch's name.

    Raises
    ------
    EncoderError
        There is no such device here.
    """
    import torch

    check_device(device)
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available[:0] = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device == "auto":
        return torch.device(available[0].partition(":")[0])
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError
        raise EncoderError(
            f"device={device!r} should be auto or one of {', '.join(available)}, which are what "
            "torch finds on this machine"
        ) from error
    return found


def device_of(kind: str, local_rank: int) -> "torch.device":
    """The device that a process of several on one machine has to itself, if there are enough.

    Raises
    ------
    EncoderError
        There is no device of this kind here.
    """
    import torch

    found = pick_device(kind)
    return torch.device(kind, local_rank % torch.cuda.device_count()) if kind == "cuda" else found


def precision_on(device: "torch.device") -> "torch.dtype":
    """Number type in which an encoder is fastest there and its features stay near enough.

    float16 tells eight times as many values apart as bfloat16, at the same speed on a GPU: cosine
    to float32 at least 0.9997, and 0.96, with MobileNetV2 and EfficientNet-Lite2 on photographs.
    """
    import torch

    if device.type == "cuda":
        return (
            torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
        )
    return torch.bfloat16 if has_bfloat16(device) else torch.float32


def has_bfloat16(device: "torch.device") -> bool:
    """Whether bfloat16 arithmetic is native there, and so faster than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able: dict = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.6 has none
        return any(able.get(key) for key in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def on_device(values: "np.ndarray | torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Copy there, without waiting for what the device is at."""
    import torch

    tensor = torch.as_tensor(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)  # pageable memory would wait


def fits(device: "torch.device", n_bytes: int) -> bool:
    """Whether so much is at most half of the memory that is free there; only CUDA can tell."""
    if device.type != "cuda":
        return True
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return n_bytes <= (free + reserved) / 2


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is a device's word for having no memory left."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "alloc_failed" in text)
