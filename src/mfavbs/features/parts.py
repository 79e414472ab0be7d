"""A batch of images: what came of each, its views or what they are drawn from, its features.

In: items of a few images. Out: a part, which :mod:`mfavbs.features.encoding` gives its features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from mfavbs.encoders import CombinedEncoder, Encoder
from mfavbs.features.cache import Cached
from mfavbs.features.pieces import Seen
from mfavbs.images import LOOK, Base

# Views in one forward pass. On a CPU the activations should stay in its caches: MobileNetV2 at 128
# pixels takes, on one core, 4.0 ms a view in batches of 16 or 20, 6.4 of 32, 8.5 of 128.
# A GPU is as fast with 256 as with 1,024 (an H100: 116,000 and 126,000 views a second), but the one
# thread that gives it work is not: it has a quarter of the launches.
_FORWARD = {"cpu": 20, "cuda": 1024}
_FORWARD_ELSEWHERE = 256


def as_looks(looks: Sequence[np.ndarray | None]) -> np.ndarray:
    """(b,) of the type `mfavbs.images.LOOK`; zeros for an image of which nothing is known."""
    return np.array([np.zeros((), LOOK) if look is None else look for look in looks], LOOK)


class Item(NamedTuple):
    """What came of one image, and its views (v, 3, s, s) where they are to be encoded.

    Or the base from which a device draws them. ``cached``: neither, for the cache has its features.
    ``look``: of the type `mfavbs.images.LOOK`, of an image that was decoded.
    """

    seen: Seen
    views: torch.Tensor | Base | None
    cached: bool = False
    look: np.ndarray | None = None


@dataclass
class Bases:
    """Images whose views are drawn on a device.

    Attributes
    ----------
    sizes
        (h, w) of each.
    numbers
        (b, v, m) of their views, see :class:`mfavbs.images.Base`.
    pixels
        uint8, flat, (h, w, 3) of each; None while they are on their way.
    """

    sizes: list[tuple[int, int]]
    numbers: np.ndarray
    pixels: np.ndarray | torch.Tensor | None

    @classmethod
    def of(cls, bases: Sequence[Base]) -> "Bases":
        """Some images' together."""
        pixels = np.concatenate([base.pixels.reshape(-1) for base in bases])
        numbers = np.stack([base.numbers for base in bases])
        return cls([base.pixels.shape[:2] for base in bases], numbers, pixels)

    @property
    def n_bytes(self) -> int:
        """Of all pixels."""
        return sum(3 * h * w for h, w in self.sizes)


class Part:
    """Some images: what came of each, and the features of those that were decoded."""

    def __init__(self, items: list[Item]) -> None:
        views = [item.views for item in items if isinstance(item.views, torch.Tensor)]
        bases = [item.views for item in items if isinstance(item.views, Base)]
        self.seen = [item.seen for item in items]
        self.hashes = [item.seen.hash or "" for item in items if item.views is not None]
        looks = [item.look for item in items if item.views is not None]
        self.looks = as_looks(looks)  # (b,)
        self.cached = {item.seen.hash or "" for item in items if item.cached}
        # numpy: torch would hand its tensors over in shared memory
        self.views = torch.stack(views).numpy() if views else None  # (b, v, 3, s, s)
        self.bases = Bases.of(bases) if bases else None
        self.features: np.ndarray | None = None  # (b, v, t, d)

    def take(self, found: Mapping[str, Cached]) -> list[str]:
        """Take in what the cache had; the keys of images that it had no more are left out."""
        gone = self.cached - found.keys()
        lost = [seen.key for seen in self.seen if seen.hash in gone]
        self.seen = [
            seen._replace(warning=found[seen.hash].note)
            if seen.hash and seen.hash in found
            else seen
            for seen in self.seen
            if seen.hash not in gone
        ]
        if found:
            own = [] if self.features is None else [self.features]
            cached = np.stack([each.features for each in found.values()])
            self.features = np.concatenate([*own, cached])  # (b, v, t, d)
            looks = as_looks([each.look for each in found.values()])
            self.looks = np.concatenate([self.looks, looks])
            self.hashes += found
        return lost


def forward_size(encoder: Encoder | CombinedEncoder) -> int:
    """Views in every forward pass: what is missing is filled up with black.

    The last bits of a feature differ with the size of the batch, not with its other images.
    """
    return _FORWARD.get(encoder.device.type, _FORWARD_ELSEWHERE)


def batch_size(encoder: Encoder | CombinedEncoder, n_views: int) -> int:
    """How many images, with ``n_views`` views each, are encoded at a time.

    So many that their views fill whole forward passes, but for one view in twenty at most.
    """
    size = forward_size(encoder)
    step = max(1, size // n_views)
    while -step * n_views % size > size // 20:
        step += 1
    return step
