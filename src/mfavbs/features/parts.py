"""A batch of images: what came of each, its views, and from them its features.

In: items of a few images, with views (v, 3, s, s) uint8. Out: features (b, v, t, d) float16.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mfavbs.encoders import Encoder
from mfavbs.errors import EncoderError
from mfavbs.features.cache import Cached
from mfavbs.features.pieces import Seen

# Views in one forward pass. On a CPU the activations should stay in its caches: MobileNetV2 at 128
# pixels takes, on one core, 4.0 ms a view in batches of 16 or 20, 6.4 of 32, 8.5 of 128.
_FORWARD = {"cpu": 20}
_FORWARD_ELSEWHERE = 256


class Item(NamedTuple):
    """What came of one image, and its views (v, 3, s, s) where they are to be encoded.

    ``cached``: they are not, for the cache has its features.
    """

    seen: Seen
    views: torch.Tensor | None
    cached: bool = False


class Part:
    """Some images: what came of each, and the features of those that were decoded."""

    def __init__(self, items: list[Item]) -> None:
        views = [item.views for item in items if item.views is not None]
        self.seen = [item.seen for item in items]
        self.hashes = [item.seen.hash or "" for item in items if item.views is not None]
        self.cached = {item.seen.hash or "" for item in items if item.cached}
        # numpy: torch would hand its tensors over in shared memory
        self.views = torch.stack(views).numpy() if views else None  # (b, v, 3, s, s)
        self.features: np.ndarray | None = None  # (b, v, t, d)

    def encode(self, encoder: Encoder) -> None:
        """Turn the views into features; raises `EncoderError` for those float16 cannot hold."""
        if self.views is None:
            return
        views = torch.from_numpy(self.views).to(encoder.device)
        tokens = _encoded(encoder, views.flatten(0, 1)).unflatten(0, views.shape[:2])
        self.views = None
        features = tokens.half()
        good = features.flatten(1).isfinite().all(1).tolist()
        if not all(good):
            wrong = {text for text, fine in zip(self.hashes, good) if not fine}
            bad = [seen.key for seen in self.seen if seen.hash in wrong]
            raise EncoderError(
                f"expected features within float16's range (±65504), {encoder.name} gives larger "
                f"ones or NaN for {', '.join(bad[:3])}{' and others' if len(bad) > 3 else ''}; "
                "check weights=, or choose another encoder="
            )
        self.features = features.cpu().numpy()

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
            self.hashes += found
        return lost


def _encoded(encoder: Encoder, views: torch.Tensor) -> torch.Tensor:
    size = forward_size(encoder)
    tokens = []
    for chunk in views.split(size):  # (b, 3, s, s)
        n_missing = size - len(chunk)
        padded = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, n_missing)) if n_missing else chunk
        tokens.append(encoder(padded)[: len(chunk)])  # (b, t, d)
    return torch.cat(tokens)


def forward_size(encoder: Encoder) -> int:
    """Views in every forward pass: what is missing is filled up with black.

    The last bits of a feature differ with the size of the batch, not with its other images.
    """
    return _FORWARD.get(encoder.device.type, _FORWARD_ELSEWHERE)


def batch_size(encoder: Encoder, n_views: int) -> int:
    """How many images, with ``n_views`` views each, are encoded at a time.

    So many that their views fill whole forward passes, but for one view in twenty at most.
    """
    size = forward_size(encoder)
    step = max(1, size // n_views)
    while -step * n_views % size > size // 20:
        step += 1
    return step
