"""The whole network from pixels: stem, MFAVBs, heads; and how it starts from a frozen run.

In: pairs of views, as pixels and the frozen encoders' features of them.
Out: representations (b, d) of the two, and the heads that they are contrasted through.
"""

import copy
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from mfavbs.errors import SourceError
from mfavbs.model.blocks import MFAVBs
from mfavbs.model.headed import HeadedNetwork
from mfavbs.model.heads import Projector, ProjectorHeads
from mfavbs.model.network import Network
from mfavbs.model.stem import PixelView, Stem, start_weights


class PixelNetwork(HeadedNetwork):
    """Pixels of a pair of views -> a representation of each: its class token (arXiv 2511.08883).

    Each view becomes tokens (:class:`mfavbs.model.Stem`), the pair goes through the MFAVBs, and
    its class tokens are the representations. After :meth:`start_from` a class token starts as what
    the frozen run makes of the anchors, to which the blocks add what their gates let through; of a
    view whose anchor is withheld it starts as a learned one.

    Parameters
    ----------
    n_clusters, n_cluster_heads
        k and h.
    dim
        Width d of a token, a multiple of 8 and of the attention heads.
    image_size
        Edge s of a view in pixels, see :class:`mfavbs.model.Stem`.
    anchor_widths
        Widths of the frozen encoders' features; none for a network without anchors.
    projectors
        Whether its heads are Contrastive Clustering's projectors, in place of prototypes; such a
        network starts at random.
    **mfavbs
        Parameters of :class:`mfavbs.MFAVBs`.

    Examples
    --------
    >>> import torch
    >>> from mfavbs.model import PixelNetwork, PixelView
    >>> network = PixelNetwork(10, dim=64, image_size=32, anchor_widths=[512], fusion="token")
    >>> views = torch.randint(256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    >>> a, b = (PixelView(view, torch.randn(8, 512)) for view in views)
    >>> network(a, b)[0].shape
    torch.Size([8, 64])
    """

    def __init__(
        self,
        n_clusters: int,
        n_cluster_heads: int = 8,
        dim: int = 128,
        *,
        image_size: int = 64,
        anchor_widths: Sequence[int] = (),
        projectors: bool = False,
        **mfavbs,
    ) -> None:
        super().__init__(n_clusters, n_cluster_heads, dim, **mfavbs)
        if projectors:
            self.instance_head = Projector(dim)
            self.cluster_heads = ProjectorHeads(dim, n_clusters, n_cluster_heads)
        start_weights(self.mfavbs)
        self.stem = Stem(dim, image_size, anchor_widths)
        self.anchor_blocks: MFAVBs | None = None

    def forward(self, view_a: PixelView, view_b: PixelView) -> tuple[Tensor, Tensor]:
        a, b = self.stem(view_a), self.stem(view_b)  # (b, t, d), (b, t, d)
        if self.anchor_blocks is not None:
            a, b = self._on_anchors(a, b, view_a.kept, view_b.kept)
        a, b = self.mfavbs(a, b)
        return a[:, 0], b[:, 0]  # (b, d)

    def _on_anchors(
        self, a: Tensor, b: Tensor, kept_a: Tensor | None, kept_b: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The same tokens, with the frozen run's representations as class tokens."""
        assert self.anchor_blocks is not None
        n = len(self.stem.anchor_widths)
        with torch.autocast(a.device.type, enabled=False):
            # Their sum is the frozen run's projection of the encoders' features side by side.
            pair = (x[:, 1 : 1 + n].float().sum(1, keepdim=True) for x in (a, b))  # (b, 1, d)
            starts = self.anchor_blocks(*pair)
        found = []
        for x, start, kept in zip((a, b), starts, (kept_a, kept_b), strict=True):
            if kept is not None:
                start = torch.where(kept[:, None, None], start, x[:, :1])
            found.append(torch.cat([start, x[:, 1:]], dim=1))
        return found[0], found[1]

    @property
    def is_symmetric(self) -> bool:
        """Whether a view has the same representation in the first place of a pair as in the second.

        So it is but for fusion along the channels, whose weights know the places.
        """
        parts = [self.mfavbs] if self.anchor_blocks is None else [self.mfavbs, self.anchor_blocks]
        return all(block.axis != -1 for part in parts for block in part.blocks)

    def started(self) -> list[nn.Parameter]:
        """The parameters that :meth:`start_from` gave their values; none before."""
        if self.anchor_blocks is None:
            return []
        parts = (self.stem.anchors, self.anchor_blocks, self.instance_head, self.cluster_heads)
        return list(chain.from_iterable(part.parameters() for part in parts))

    @torch.no_grad()
    def start_from(self, frozen: Network) -> None:
        """Answer as a trained network on the same encoders' features does.

        Its projection becomes the anchors' maps, its blocks the class token's residual path, its
        heads these heads. With gates near zero (``gate=1e-3``, say) the MFAVBs add almost nothing.

        Parameters
        ----------
        frozen
            Trained on features of one token a view, with as many clusters, heads and channels.

        Raises
        ------
        SourceError
            If its shapes are others; the message names both.
        """
        self._check(frozen)
        first = 0
        for anchor in self.stem.anchors:
            assert isinstance(anchor, nn.Linear)
            part = slice(first, first + anchor.in_features)
            anchor.weight.copy_(frozen.components[part].T)
            anchor.bias.copy_(-frozen.mean[0, part] @ frozen.components[part])
            first = part.stop
        self.anchor_blocks = copy.deepcopy(frozen.mfavbs).to(self.device)
        self.cluster_heads.load_state_dict(frozen.cluster_heads.state_dict())
        self.instance_head.load_state_dict(frozen.instance_head.state_dict())
        # As long as the projected features, whose place it takes where they are withheld: the
        # gradient of a direction is larger the shorter the vector.
        nn.init.normal_(self.stem.class_token)

    def _check(self, frozen: Network) -> None:
        expected = {
            "widths of features": (sum(self.stem.anchor_widths), frozen.n_features),
            "clusters": (self.n_clusters, frozen.n_clusters),
            "cluster heads": (self.n_cluster_heads, frozen.n_cluster_heads),
            "dim": (self.width, frozen.width),
            "tokens a view": (1, frozen.n_tokens),
        }
        if isinstance(self.cluster_heads, ProjectorHeads):
            raise SourceError("heads that are projectors have no prototypes to start from")
        for name, (here, there) in expected.items():
            if here != there:
                raise SourceError(
                    f"expected a frozen network with {name} {here}, got {there}; fit it, or build "
                    "this one, with the same"
                )
        if frozen.frame is not None:
            raise SourceError(
                f"features of {frozen.n_features} numbers are no encoder's; give at least 8"
            )
