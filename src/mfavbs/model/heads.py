"""The two spaces in which a pair is contrasted: of instances and of clusters.

In: representations of images, (b, d).
Out: instance embeddings (b, e), and the logits of h cluster heads side by side, (h, b, k).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceHead(nn.Sequential):
    """Two-layer projection into the space of the instance loss (SimCLR, arXiv 2002.05709).

    Parameters
    ----------
    dim
        Width d of a representation.
    embedding_dim
        Width e of the embedding.
    """

    def __init__(self, dim: int, embedding_dim: int = 128) -> None:
        super().__init__(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, embedding_dim))


class ClusterHeads(nn.Module):
    """h independent cluster heads: cosine similarity to k prototypes, over a temperature.

    Their weights are directions in the space of the representations, so that the centroids of a
    k-means there can be their start.

    Parameters
    ----------
    dim
        Width d of a representation.
    n_clusters
        k.
    n_cluster_heads
        h.
    temperature
        Divides the cosines: how sharp an assignment can be.
    """

    def __init__(
        self, dim: int, n_clusters: int, n_cluster_heads: int = 1, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.dim, self.n_clusters = dim, n_clusters
        self.temperature = temperature
        self.prototypes = nn.Parameter(torch.randn(n_cluster_heads, n_clusters, dim))

    def forward(self, x: Tensor, heads: slice = slice(None)) -> Tensor:
        x = F.normalize(x, dim=-1)  # (b, d)
        prototypes = F.normalize(self.prototypes[heads], dim=-1)  # (h, k, d)
        return x @ prototypes.mT / self.temperature  # (h, b, k)


class Projector(nn.Sequential):
    """The projector of Contrastive Clustering (arXiv 2009.09687) as VTCC has it: three layers.

    Parameters
    ----------
    dim
        Width d of a representation; the layers between are 4 d wide.
    out
        Width of what comes out.
    """

    def __init__(self, dim: int, out: int = 128) -> None:
        wide = 4 * dim
        layers: list[nn.Module] = []
        for before in (dim, wide):
            layers += [nn.Linear(before, wide, bias=False), nn.BatchNorm1d(wide), nn.ReLU()]
        super().__init__(*layers, nn.Linear(wide, out))


class ProjectorHeads(nn.ModuleList):
    """h independent cluster heads that are projectors onto k logits each.

    Parameters
    ----------
    dim, n_clusters, n_cluster_heads
        As for :class:`ClusterHeads`.
    """

    def __init__(self, dim: int, n_clusters: int, n_cluster_heads: int = 1) -> None:
        super().__init__(Projector(dim, n_clusters) for _ in range(n_cluster_heads))
        self.dim, self.n_clusters = dim, n_clusters

    def forward(self, x: Tensor, heads: slice = slice(None)) -> Tensor:
        logits = [head(x) for head in list(self)[heads]]
        return torch.stack(logits) if logits else x.new_zeros(0, len(x), self.n_clusters)
