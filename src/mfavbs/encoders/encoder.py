"""A frozen encoder that turns a view into tokens.

In: a batch of views, (b, 3, s, s) uint8.
Out: their tokens, (b, t, d) float32, where t = 1 + g²: the pooled feature comes first, then, with
a grid g > 0, the patch tokens averaged to g × g.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mfavbs.devices import has_bfloat16
from mfavbs.encoders.names import DEFAULT_ENCODER, check_encoder
from mfavbs.encoders.pretrained import explained, from_open_clip, from_timm
from mfavbs.encoders.towers import PixelsTower, Tower
from mfavbs.errors import EncoderError

_PIXELS_SIZE = 16


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
    ) -> None:
        super().__init__()
        self.name = name
        self.tower = tower
        self.image_size = image_size
        self.grid = grid
        self.weights_hash = weights_hash
        self.augmentation = augmentation
        # uint8 travels from the workers at a quarter of the bytes; the scaling belongs here.
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))
        self.dtype = torch.float32
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        x = (images.to(self.mean.device).float() - self.mean) / self.std  # (b, 3, s, s)
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
        """Move to ``device``, in bfloat16 where its arithmetic is native and float32 elsewhere."""
        self.dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
        self.to(device).to(memory_format=torch.channels_last)
        self.tower.to(self.dtype)
        return self


def load_encoder(
    name: str = DEFAULT_ENCODER,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    grid: int = 0,
) -> Encoder:
    """Build a frozen encoder, with weights from a local file or, if none is given, from the hub.

    Parameters
    ----------
    name
        ``open_clip:MODEL/PRETRAINED``, ``timm:MODEL`` or ``pixels``.
    weights
        A local checkpoint: ``.safetensors``, or ``.pt``/``.pth``/``.bin`` holding tensors only.
        For open_clip the whole model or its image side. The header of a safetensors file may
        carry ``mean`` and ``std``, each one number or a list of three, and ``pad_type`` for timm.
    image_size
        Edge of the views in pixels; by default the size the weights were trained at. Position
        embeddings of another size are interpolated.
    grid
        0 for the pooled feature alone, g > 0 for g × g patch tokens beside it.

    Raises
    ------
    EncoderError
        The name is unknown; the weights cannot be fetched or read or do not fit the model; or it
        cannot take that image size or give that grid.
    """
    check_encoder(name, weights=weights, image_size=image_size, grid=grid)
    path = None if weights is None else Path(weights).expanduser()
    if name == "pixels":
        encoder = _pixels(image_size or _PIXELS_SIZE, grid)
    else:
        made = (from_timm if name.startswith("timm:") else from_open_clip)(name, path, image_size)
        encoder = Encoder(name, *made[:4], grid, made.weights_hash)
    if image_size or grid:
        with explained(f"{name} cannot encode with image_size={encoder.image_size}, {grid=}"):
            encoder(torch.zeros(1, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8))
    return encoder


def _pixels(image_size: int, grid: int) -> Encoder:
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder("pixels", PixelsTower(grid), image_size, zero, one, grid, "", "shift")
