"""Several frozen encoders that look at the same views, as one.

In: a batch of views, (b, 3, s, s) uint8, at the largest size that is asked for. Out: their tokens,
(b, t, f1 + f2 + ...): those of each encoder side by side, every block of them of the same weight.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.encoders.encoder import Encoder


class CombinedEncoder:
    """Encoders side by side, for whatever takes an :class:`Encoder`.

    Each token of each encoder is l2-normalised and divided by the square root of their number, so
    that the product of two joint tokens is the mean of the encoders' cosines.

    Parameters
    ----------
    encoders
        Two or more with the same grid. All see the square that suits the first; smaller views are
        the largest ones made smaller.
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = list(encoders)
        first = self.encoders[0]
        self.name = " + ".join(encoder.name for encoder in encoders)
        self.image_size = max(encoder.image_size for encoder in encoders)
        self.grid = first.grid
        self.framing = first.framing
        # Views that suit the least invariant suit all.
        kinds = [encoder.augmentation for encoder in encoders]
        self.augmentation = "shift" if "shift" in kinds else first.augmentation
        self.blocks = tuple(_width(encoder) for encoder in encoders)
        mode = "bilinear" if self.framing.interpolation == "bilinear" else "bicubic"
        sizes = [encoder.image_size for encoder in encoders]
        self._smaller = [_resampling(self.image_size, size, mode) for size in sizes]

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.encoders[0].device

    @property
    def recipe(self) -> dict[str, Any]:
        """As that of one, with ``encoders``, what each of them is, and the widths ``blocks``."""
        recipes = [encoder.recipe for encoder in self.encoders]
        precisions = [recipe["precision"] for recipe in recipes]
        own = ("encoder", "weights_hash", "pad_type", "image_size", "mean", "std")
        return {
            "encoder": self.name,
            "weights_hash": " + ".join(recipe["weights_hash"] for recipe in recipes),
            "encoders": [{name: recipe[name] for name in own} for recipe in recipes],
            "blocks": list(self.blocks),
            "image_size": self.image_size,
            "grid": self.grid,
            "precision": " + ".join(precisions if len(set(precisions)) > 1 else precisions[:1]),
            **self.framing._asdict(),
            "fill": list(self.framing.fill),
            "augmentation": self.augmentation,
        }

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Encode views, (b, 3, s, s) uint8, into tokens, (b, t, d) float32."""
        images = images.to(self.device)
        scale = 1 / math.sqrt(len(self.encoders))
        blocks = [
            scale * F.normalize(encoder(_resized(images, smaller)), dim=2)
            for encoder, smaller in zip(self.encoders, self._smaller, strict=True)
        ]  # (b, t, f) each
        return torch.cat(blocks, dim=2)

    def to_device(self, device: torch.device) -> "CombinedEncoder":
        """Move all of them, see :meth:`Encoder.to_device`."""
        for encoder in self.encoders:
            encoder.to_device(device)
        self._smaller = [each if each is None else each.to(device) for each in self._smaller]
        return self


def _width(encoder: Encoder) -> int:
    """d of its tokens; found by encoding, as no library tells it for all networks."""
    size = encoder.image_size
    return encoder(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[2]


def _resampling(edge: int, size: int, mode: str) -> Tensor | None:
    """Matrix (size, edge) that makes a column of pixels smaller, or None where it stays.

    Not every device has torch's own resampling; all have products.
    """
    if size == edge:
        return None
    return F.interpolate(torch.eye(edge)[None, None], (size, edge), mode=mode, antialias=True)[0, 0]


def _resized(images: Tensor, smaller: Tensor | None) -> Tensor:
    """Views (b, 3, s, s), made smaller as far as that is needed."""
    if smaller is None:
        return images
    return (smaller @ images.float() @ smaller.T).clamp(0, 255)
