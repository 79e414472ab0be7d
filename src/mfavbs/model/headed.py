"""What the network on features and the one on pixels share: MFAVBs, heads, and images kept.

In: parameters. Out: a module whose ``forward`` is left to the two.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mfavbs.model.blocks import MFAVBs
from mfavbs.model.heads import ClusterHeads, InstanceHead
from mfavbs.model.neighbours import Neighbourhood


class HeadedNetwork(nn.Module):
    """MFAVBs, the two kinds of heads, and the training images that answer others.

    Parameters
    ----------
    n_clusters, n_cluster_heads
        k and h.
    dim
        Width d of the tokens inside.
    **mfavbs
        Parameters of :class:`mfavbs.MFAVBs`.
    """

    # Of the training images kept, (m, d) and (m, k) float16: what others are answered with.
    bank_representations: Tensor
    bank_probabilities: Tensor

    def __init__(self, n_clusters: int, n_cluster_heads: int, dim: int, **mfavbs) -> None:
        super().__init__()
        for name, width in (("representations", dim), ("probabilities", n_clusters)):
            self.register_buffer(f"bank_{name}", torch.zeros(0, width, dtype=torch.float16))
        self._bank: Neighbourhood | None = None
        self.n_cluster_heads = n_cluster_heads
        self.mfavbs = MFAVBs(dim, **mfavbs)
        self.instance_head: nn.Module = InstanceHead(dim)
        self.cluster_heads: Any = ClusterHeads(dim, n_clusters, n_cluster_heads)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.bank_representations.device

    @property
    def n_clusters(self) -> int:
        """Clusters k of every head."""
        return self.cluster_heads.n_clusters

    @property
    def width(self) -> int:
        """Width d of the tokens inside, and of a representation."""
        return self.cluster_heads.dim

    @property
    def n_kept(self) -> int:
        """Training images kept, m, whose answers are averaged with an image's own."""
        return len(self.bank_probabilities)

    @torch.no_grad()
    def keep(self, probabilities: Tensor, representations: Tensor) -> None:
        """Keep the probabilities (m, k) and representations (m, d) of training images."""
        self.make_room(len(probabilities))
        self.bank_probabilities.copy_(probabilities)
        self.bank_representations.copy_(representations)

    def bank(self) -> Neighbourhood:
        """The representations kept, to be searched; its index is built once."""
        if self._bank is None or self._bank.rows.device != self.device:
            self._bank = Neighbourhood(self.bank_representations)
        return self._bank

    def make_room(self, n_images: int) -> None:
        """Size the bank for ``n_images``, before they are kept or loaded."""
        self._bank = None
        for name in ("bank_representations", "bank_probabilities"):
            buffer = getattr(self, name)
            setattr(self, name, buffer.new_zeros(n_images, buffer.shape[1]))
