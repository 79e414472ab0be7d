"""From a view's pixels to its tokens, by a stem that is trained.

In: views (b, 3, s, s) uint8 and what frozen encoders say of the same views, (b, f).
Out: tokens (b, 1 + e + p, d): a class token, an anchor token for each encoder, the patches.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ConvNormAct, PatchEmbed, build_sincos2d_pos_embed
from torch import Tensor, nn

from mfavbs.errors import SourceError

_LIGHT, _CONVOLUTIONAL = 4, 16  # edge of a patch, in pixels
_LEAST, _LARGE = 8, 64  # views from so many pixels are taken, and by convolutions


class PixelView(NamedTuple):
    """One view of each of b images.

    Attributes
    ----------
    pixels
        (b, 3, s, s) uint8.
    feature
        (b, f) of the frozen encoders, side by side; of width 0 where none is asked.
    kept
        (b,) bool: whether the network is told the feature. None tells it all of them.
    """

    pixels: Tensor
    feature: Tensor
    kept: Tensor | None = None


class Stem(nn.Module):
    """Tokens of views: of their patches, of what frozen encoders say of them, and of the class.

    Views of 64 pixels and more go through VTCC's convolutions (arXiv 2206.12925, after arXiv
    2106.14881): four of 3 x 3 with stride 2, batch norm and ReLU, d/8, d/4, d/2 and d wide, then
    one of 1 x 1. Smaller ones are cut into patches of 4 x 4. Their places are told by fixed
    sines and cosines, those of the class and the anchors are zero.

    Parameters
    ----------
    dim
        Width d of a token, a multiple of 8.
    image_size
        Edge s of a view in pixels: a multiple of 4 from 8 to 60, or of 16 from 64.
    anchor_widths
        Widths of the frozen encoders' features, which side by side are f: one anchor token for
        each. None by default.

    Raises
    ------
    SourceError
        If views of this size cannot be cut into patches; it names the nearest that can.
    ValueError
        If ``dim`` is no multiple of 8.
    """

    positions: Tensor  # (p, d)
    mean: Tensor  # (3, 1, 1)
    std: Tensor

    def __init__(self, dim: int, image_size: int, anchor_widths: Sequence[int] = ()) -> None:
        super().__init__()
        check_image_size(image_size)
        if dim % 8:
            raise ValueError(f"dim={dim} should be a multiple of 8.")
        patch = _patch_size(image_size)
        if patch == _LIGHT:
            self.patches: nn.Module = PatchEmbed(image_size, patch, 3, dim, flatten=False)
        else:
            self.patches = _convolutions(dim)
        self.anchors = nn.ModuleList(nn.Linear(width, dim) for width in anchor_widths)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        grid = [image_size // patch] * 2
        constants = {
            "positions": build_sincos2d_pos_embed(grid, dim),
            "mean": 255 * torch.tensor(IMAGENET_DEFAULT_MEAN)[:, None, None],
            "std": 255 * torch.tensor(IMAGENET_DEFAULT_STD)[:, None, None],
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self.image_size = image_size
        self.anchor_widths = list(anchor_widths)
        start_weights(self)
        nn.init.normal_(self.class_token, std=1e-6)

    def forward(self, view: PixelView) -> Tensor:
        x = (view.pixels - self.mean) / self.std
        patches = self.patches(x).flatten(2).mT + self.positions  # (b, p, d)
        tokens = [self.class_token.expand(len(x), -1, -1), patches]
        if self.anchor_widths:
            tokens.insert(1, self.anchor_tokens(view))
        return torch.cat(tokens, dim=1)  # (b, 1 + e + p, d)

    def anchor_tokens(self, view: PixelView) -> Tensor:
        """A linear map of each encoder's part of the feature, scaled to unit length, (b, e, d).

        It is zero of the views whose feature is not told.
        """
        # They are the frozen run's answer, which bfloat16 would change.
        with torch.autocast(view.feature.device.type, enabled=False):
            parts = F.normalize(view.feature.float(), dim=-1).split(self.anchor_widths, dim=-1)
            mapped = [anchor(part) for anchor, part in zip(self.anchors, parts, strict=True)]
            tokens = torch.stack(mapped, dim=1)
        return tokens if view.kept is None else tokens * view.kept[:, None, None]


def check_image_size(image_size: int) -> None:
    """Refuse views that no stem takes; see :class:`Stem`."""
    patch = _patch_size(image_size)
    if image_size >= _LEAST and image_size % patch == 0:
        return
    below = image_size // patch * patch
    near = [size for size in (below, below + patch) if size >= _LEAST] or [_LEAST]
    raise SourceError(
        f"expected views of a multiple of {_LIGHT} pixels from {_LEAST} to {_LARGE - _LIGHT}, or "
        f"of {_CONVOLUTIONAL} from {_LARGE}, got {image_size}; take "
        f"{' or '.join(map(str, near))}"
    )


def _patch_size(image_size: int) -> int:
    return _LIGHT if image_size < _LARGE else _CONVOLUTIONAL


def _convolutions(dim: int) -> nn.Sequential:
    widths = [3, dim // 8, dim // 4, dim // 2, dim]
    layers = [
        ConvNormAct(before, after, 3, stride=2, act_layer=nn.ReLU)
        for before, after in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))  # (b, d, s / 16, s / 16)


@torch.no_grad()
def start_weights(module: nn.Module) -> None:
    """Draw the weights as VTCC does: Xavier's uniform, of queries, keys and values apart.

    That is MoCo v3's start of a ViT (arXiv 2104.02057); biases are zero. Convolutions keep the
    start that torch gives them, but for the light stem's, a linear map of a patch.
    """
    for name, part in module.named_modules():
        if isinstance(part, PatchEmbed):
            n_in, n_out = part.proj.weight[0].numel(), len(part.proj.weight)
            assert part.proj.bias is not None
            part.proj.weight.uniform_(-1, 1).mul_(math.sqrt(6 / (n_in + n_out)))
            nn.init.zeros_(part.proj.bias)
        elif isinstance(part, nn.Linear):
            n_out = part.out_features // (3 if name.endswith("qkv") else 1)
            part.weight.uniform_(-1, 1).mul_(math.sqrt(6 / (part.in_features + n_out)))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
