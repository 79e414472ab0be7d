"""Where tensors live: which devices there are, and what is fast on them.

In: a device's name. Out: a `torch.device` that exists here.
"""

import torch

from mfavbs.errors import EncoderError


def pick_device(device: str = "auto") -> torch.device:
    """``auto`` is CUDA, Apple's MPS or the CPU, in this order; anything else is torch's name.

    Raises
    ------
    EncoderError
        There is no such device here.
    """
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


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is native there, and so faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able: dict = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.6 has none
        return any(able.get(key) for key in ("amx_bf16", "avx512_bf16", "bf16"))
    return False
