"""A frozen encoder that turns a view into tokens.

In: a batch of views, (b, 3, s, s) uint8.
Out: their tokens, (b, t, d) float32, where t = 1 + g²: the pooled feature comes first, then, with
a grid g > 0, the patch tokens averaged to g × g.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfavbs.devices import precision_on
from mfavbs.encoders.towers import Tower
from mfavbs.errors import EncoderError
from mfavbs.images import Framing

_NEAR_ENOUGH = 0.999  # cosine of features in two number types


class Encoder(nn.Module):
    """A frozen network behind its own normalisation, giving tokens of one width.

    Parameters
    ----------
    name
        As the user writes it: ``open_clip:MODEL/PRETRAINED``, ``timm:MODEL`` or ``pixels``.
    tower
        From (b, 3, s, s) to the pooled feature (b, d), and what its method ``patches`` turns into
        the map of patch tokens (b, d, rows, columns), or ``None`` where it has none.
    image_size
        Edge of the square views it expects, in pixels.
    mean, std
        Of the three channels, on the scale 0 to 1.
    grid
        0 for the pooled feature alone, g > 0 for g × g patch tokens beside it.
    weights_hash
        Digest of the weights, so that a feature store knows what made it.
    augmentation
        The kind of views that suits it, see :class:`mfavbs.images.Views`.
    framing
        How an image becomes the square that it expects.
    pad_type
        Of a timm network's convolutions, where it was chosen; empty for its own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        tower: Tower,
        image_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        grid: int = 0,
        weights_hash: str = "",
        augmentation: str = "simclr",
        framing: Framing = Framing(),  # noqa: B008 (a tuple)
        pad_type: str = "",
    ) -> None:
        super().__init__()
        self.name = name
        self.tower = tower
        self.image_size = image_size
        self.grid = grid
        self.weights_hash = weights_hash
        self.augmentation = augmentation
        self.framing = framing
        self.pad_type = pad_type
        self._mean_and_std = {"mean": list(mean), "std": list(std)}
        # uint8 travels from the workers at a quarter of the bytes; the scaling belongs here.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        self.dtype = torch.float32
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.mean.device

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides an image's tokens but how its views are drawn, as plain values."""
        return {
            "encoder": self.name,
            "weights_hash": self.weights_hash,
            "pad_type": self.pad_type,
            "image_size": self.image_size,
            "grid": self.grid,
            **self._mean_and_std,
            "precision": str(self.dtype).removeprefix("torch."),
            **self.framing._asdict(),
            "fill": list(self.framing.fill),
            "augmentation": self.augmentation,
        }

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        x = (images.to(self.device).float() - self.mean) / self.std  # (b, 3, s, s)
        # Channels last: 7 instead of 9 to 12 ms a view (MobileNetV2, 128 pixels, one core).
        x = x.to(self.dtype, memory_format=torch.channels_last)
        pooled, features = self.tower(x)  # (b, d)
        tokens = pooled[:, None]  # (b, 1, d)
        if self.grid:
            patches = self.tower.patches(features)  # (b, d, rows, columns)
            if patches is None:
                raise EncoderError(f"{self.name} has no patch tokens; use grid=0")
            rows, columns = patches.shape[2:]
            if min(rows, columns) < self.grid:
                raise EncoderError(
                    f"grid={self.grid} should be <= {min(rows, columns)}: {self.name} gives "
                    f"{rows} x {columns} patch tokens at image_size={self.image_size}; lower "
                    "grid= or raise image_size="
                )
            cells = F.adaptive_avg_pool2d(patches, self.grid)  # (b, d, g, g)
            tokens = torch.cat([tokens, cells.flatten(2).mT], dim=1)  # (b, 1 + g², d)
        return tokens.float()

    def to_device(self, device: torch.device) -> "Encoder":
        """Move to ``device``, in the number type that is fastest there.

        float16, which ends at 65,504, only where it gives about the features of float32.
        """
        self.to(device).to(memory_format=torch.channels_last)
        dtype = precision_on(device)
        if dtype == torch.float16 and self.dtype != dtype and not self._is_good_in(dtype):
            dtype = torch.float32
        self.dtype = dtype
        self.tower.to(dtype)
        return self

    def _is_good_in(self, dtype: torch.dtype) -> bool:
        generator = torch.Generator().manual_seed(0)
        size = (self.image_size, self.image_size)
        patches = torch.rand(8, 3, 7, 7, generator=generator)
        blurred = F.interpolate(patches, size, mode="bilinear")
        noise = torch.rand(8, 3, *size, generator=generator)
        views = (200 * blurred + 55 * noise).to(torch.uint8).to(self.device)
        tower, before = self.tower, self.dtype
        tokens = []
        for self.dtype in (torch.float32, dtype):
            self.tower = copy.deepcopy(tower).to(self.dtype)
            tokens.append(self(views))
        self.tower, self.dtype = tower, before
        expected, got = tokens
        return bool((F.cosine_similarity(expected, got, dim=-1) >= _NEAR_ENOUGH).all())
