"""All that is trained: a projection of the features, the MFAVBs, the two kinds of heads.

In: features of images, (n, v, t, f).
Out: representations (b, d) of pairs of views, and the heads that they are contrasted through.
"""

import itertools
import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mfavbs.devices import fits
from mfavbs.memory import let_go
from mfavbs.model.headed import HeadedNetwork
from mfavbs.model.kmeans import kmeans, rand_index
from mfavbs.model.projection import fit_frame, fit_projection, is_narrow, unit

# k-means sees each embedding as the mean of its neighbourhood, three times over: fewer poor optima
# (docs/experiments.md, "Start, gates and rates").
_SMOOTHINGS = 3
KMEANS_RUNS = 3  # of k-means for each head
_SAME = 0.95  # two partitions of a larger adjusted Rand index are the same one
_CHUNK = 4096  # images projected at once: bounds the float32 copy of a memory-mapped store


class Network(HeadedNetwork):
    """Tokens of a pair of views -> a representation of each, for the heads to look at.

    The features are l2-normalised, centred and projected onto ``dim`` components
    (:func:`mfavbs.model.fit_projection`), which are fitted once and stay fixed: the network
    starts as the pretrained features, and training moves vectors of ``dim`` instead of the
    encoder's width.

    Parameters
    ----------
    n_features
        Width f of the encoder's tokens.
    n_tokens
        Tokens t of a view.
    n_clusters, n_cluster_heads
        k and h.
    dim
        Width d of the tokens inside.
    **mfavbs
        Parameters of :class:`mfavbs.MFAVBs`.
    """

    frame: Tensor | None  # (f + 1,) where f is small
    mean: Tensor  # (t, f)
    components: Tensor  # (f, d)

    def __init__(
        self,
        n_features: int,
        n_tokens: int,
        n_clusters: int,
        n_cluster_heads: int = 8,
        dim: int = 128,
        **mfavbs,
    ) -> None:
        super().__init__(n_clusters, n_cluster_heads, dim, **mfavbs)
        narrow = is_narrow(n_features)
        self.register_buffer("frame", torch.zeros(n_features + 1) if narrow else None)
        self.register_buffer("mean", torch.zeros(n_tokens, n_features + narrow))
        self.register_buffer("components", torch.zeros(n_features + narrow, dim))

    @property
    def n_tokens(self) -> int:
        """Tokens t of a view."""
        return self.mean.shape[0]

    @property
    def n_features(self) -> int:
        """Width f of the encoder's tokens."""
        return self.mean.shape[1] - (self.frame is not None)

    def forward(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.mfavbs(view_a, view_b)  # (b, t, d), (b, t, d)
        return a[:, 0], b[:, 0]  # (b, d): the pooled token, which has seen the others

    @torch.no_grad()
    def fit_projection(
        self, features: np.ndarray, generator: torch.Generator, rows: np.ndarray | None = None
    ) -> None:
        """Fit mean and components on ``features`` (n, v, t, f), or on those ``rows`` of them."""
        if self.frame is not None:
            self.frame.copy_(fit_frame(features if rows is None else features[rows]))
        mean, components = fit_projection(
            features, self.width, generator, rows, self.device, self.frame
        )
        self.mean.copy_(mean)
        self.components.copy_(components)

    @torch.no_grad()
    def start_heads(self, embeddings: Tensor, neighbours: Tensor, seed: int) -> None:
        """Start every cluster head from another k-means, on embeddings smoothed over neighbours.

        The best comes first; where fewer differ than there are heads, they take turns.

        Parameters
        ----------
        embeddings
            (n, d) of unit length, from :func:`mean_view`, on the network's device.
        neighbours
            (n, m) rows, likewise.
        seed
            Of the k-means' starts.
        """
        smooth = embeddings
        for _ in range(_SMOOTHINGS):
            total = sum((smooth[column] for column in neighbours.T), start=smooth)
            smooth = F.normalize(total, dim=-1)
        heads = self.cluster_heads.prototypes  # (h, k, d)
        partitions = _partitions(smooth, self.n_clusters, len(heads), seed)
        for prototypes, labels in zip(heads, itertools.cycle(partitions)):
            # Centroids of the embeddings themselves: that is the space the heads look at.
            member = F.one_hot(labels, self.n_clusters).to(embeddings.dtype)  # (n, k)
            centroids = member.T @ embeddings
            filled = centroids.norm(dim=-1) > 0  # duplicates may leave a cluster empty
            prototypes[filled] = F.normalize(centroids[filled], dim=-1)

    @torch.no_grad()
    def project(self, features: np.ndarray, rows: np.ndarray | None = None) -> Tensor:
        """Project features (n, v, t, f), or ``rows`` of them, to tokens (n, v, t, d).

        They lie on the network's device, or on the CPU where they would take more than half of
        what is free there.
        """
        rows = np.arange(len(features)) if rows is None else rows
        shape = (len(rows), *features.shape[1:3], self.width)
        place = self.device if fits(self.device, 4 * math.prod(shape)) else "cpu"
        tokens = torch.empty(shape, dtype=torch.float32, device=place)
        for start in range(0, len(rows), _CHUNK):
            part = unit(features[rows[start : start + _CHUNK]], self.device, self.frame)
            tokens[start : start + _CHUNK] = (part - self.mean) @ self.components
            let_go(features)
        return tokens

    def parts(self, features: np.ndarray) -> Iterator[Tensor]:
        """Tokens (b, v, t, d) of all images, 4,096 at a time."""
        for rows in np.split(np.arange(len(features)), range(_CHUNK, len(features), _CHUNK)):
            yield self.project(features, rows)


def _partitions(points: Tensor, k: int, n_partitions: int, seed: int) -> list[Tensor]:
    """Labels of the best k-means there are by inertia, the best first, no two of them the same.

    Most runs of k-means end in the same few optima. Fewer than asked for if no more are found.
    """
    distinct = len(points.cpu().round(decimals=5).unique(dim=0))
    if distinct < k:
        warnings.warn(
            f"The features have {distinct} distinct neighbourhoods, fewer than n_clusters={k}.",
            ConvergenceWarning,
            stacklevel=2,
        )
        k = distinct
    labels, inertia = kmeans(points, k, KMEANS_RUNS * n_partitions, seed)
    found: list[Tensor] = []
    for label in labels[inertia.argsort(stable=True)]:
        if len(found) < n_partitions and all(rand_index(label, x) < _SAME for x in found):
            found.append(label)
    return found


def mean_view(tokens: Tensor) -> Tensor:
    """One unit vector for each image, the direction of the mean of its views' pooled tokens.

    Averaging over the views takes out what the augmentations put in.

    Parameters
    ----------
    tokens
        (n, v, t, d).

    Returns
    -------
    Tensor
        (n, d).
    """
    return F.normalize(tokens[:, :, 0].mean(1), dim=-1)
