"""The multiple fusing-augmenting ViT blocks (MFAVBs, arXiv 2511.08883).

In: a pair of views as tokens, (b, t, d) and (b, t, d).
Out: the pair that the last block splits off, (b, t, d) and (b, t, d).

The shape glossary of the whole package:

==  =======================  ==  =================
n   images                   d   width of a token
v   views of an image        k   clusters
t   tokens of a view         h   cluster heads
b   batch                    g   edge of the token grid
==  =======================  ==  =================
"""

from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

Fusion = Literal["channel", "token", "none"]


class _Attention(Attention):
    """Attention that does not ask where to look if there is one place."""

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        if x.shape[1] > 1:
            return super().forward(x, *args, **kwargs)
        values = F.linear(x, self.qkv.weight.chunk(3)[2])  # (b, 1, d)
        return self.proj(values)


class ViT(nn.Sequential):
    """A stack of pre-norm transformer blocks on tokens that are already embedded.

    It adds no position embedding: the encoder's tokens carry theirs.

    Parameters
    ----------
    dim
        Width d of a token, a multiple of ``n_heads``.
    depth
        Number of transformer blocks.
    n_heads
        Attention heads.
    gate
        Start of the learned per-channel scale on every residual branch (LayerScale, arXiv
        2103.17239). Near zero the stack starts as the identity; ``None`` leaves the scale out.
    """

    def __init__(self, dim: int, depth: int, n_heads: int, gate: float | None = None) -> None:
        if gate is not None and gate <= 0:  # timm would read 0 as no scale at all
            raise ValueError(f"gate={gate} should be > 0, or None for blocks without one.")
        super().__init__(*(Block(dim, n_heads, init_values=gate) for _ in range(depth)))
        for block in self:
            block.attn.__class__ = _Attention  # its weights stay: none is drawn a second time


class FAVB(nn.Module):
    """One fusing-augmenting ViT block: a shared-weight ViT, fusion, a larger ViT, a split.

    Parameters
    ----------
    dim, shared_depth, fused_depth, n_heads, gate
        As in :class:`MFAVBs`.
    fusion
        As in :class:`MFAVBs`.
    """

    def __init__(
        self,
        dim: int,
        shared_depth: int = 1,
        fused_depth: int = 1,
        n_heads: int = 4,
        fusion: Fusion = "channel",
        gate: float | None = None,
    ) -> None:
        super().__init__()
        if fusion not in ("channel", "token", "none"):
            raise ValueError(f"fusion={fusion!r} should be 'channel', 'token' or 'none'.")
        self.axis = {"channel": -1, "token": 1, "none": 0}[fusion]
        self.shared = ViT(dim, shared_depth, n_heads, gate)
        # Twice the width for channels side by side. Stacked along the batch ("none") the pair
        # meets the same larger ViT without ever seeing each other: the ablation.
        width = 2 * dim if fusion == "channel" else dim
        self.fused = ViT(width, fused_depth, n_heads, gate)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.shared(a), self.shared(b)  # (b, t, d), (b, t, d)
        fused = torch.cat([a, b], self.axis)  # (b, t, 2d) or (b, 2t, d) or (2b, t, d)
        a, b = self.fused(fused).chunk(2, self.axis)
        return a, b  # (b, t, d), (b, t, d)


class MFAVBs(nn.Module):
    """M fusing-augmenting blocks in a row, each fed with the pair the one before split off.

    Where a ViT sees a single token, attention has one place to look at: its softmax is 1 whatever
    query and key say, so that attention is a linear map of the values, and the weights of queries
    and keys (16 % of all with one token and ``"channel"``) never learn. With ``"token"`` the
    larger ViT sees two tokens at least, one of each view, and attends between them.

    Parameters
    ----------
    dim
        Width d of a token, a multiple of ``n_heads``.
    n_blocks
        M, the number of blocks; 0 returns the pair as it came.
    shared_depth, fused_depth
        Transformer blocks in the shared-weight ViT and in the larger one.
    n_heads
        Attention heads in both.
    fusion
        ``"channel"`` puts the pair side by side along the width, so that the larger ViT is 2d
        wide; ``"token"`` along the tokens, so that it attends from one view to the other;
        ``"none"`` keeps the two apart.
    gate
        Start of the residual branches' learned scale, see :class:`ViT`; ``None`` is the paper's
        plain block.

    Examples
    --------
    >>> import torch
    >>> from mfavbs import MFAVBs
    >>> a, b = MFAVBs(dim=64, n_blocks=2)(torch.randn(8, 5, 64), torch.randn(8, 5, 64))
    >>> a.shape, b.shape
    (torch.Size([8, 5, 64]), torch.Size([8, 5, 64]))
    """

    def __init__(
        self,
        dim: int,
        n_blocks: int = 1,
        shared_depth: int = 1,
        fused_depth: int = 1,
        n_heads: int = 4,
        fusion: Fusion = "channel",
        gate: float | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            FAVB(dim, shared_depth, fused_depth, n_heads, fusion, gate) for _ in range(n_blocks)
        )

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            a, b = block(a, b)  # (b, t, d), (b, t, d)
        return a, b
