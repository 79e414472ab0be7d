"""TEMI (BMVC 2023, arXiv 2303.17896): heads taught by their own past to agree on neighbours.

In: features (n, v, t, d); view 0 is the clean one, token 0 the pooled feature.
Out: labels (n,), int.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from mfavbs.bench.peers.classical import mean_embedding
from mfavbs.model import nearest_neighbours

_TEMPERATURE = 0.1  # of student and teacher
_PRIOR_MOMENTUM = 0.9  # of the running mean assignment
_CHUNK = 4096  # images labelled at once


class Heads(nn.Module):
    """h heads side by side: two layers to a bottleneck of unit length, then k unit directions.

    Parameters
    ----------
    n_features
        Width d of the input.
    k
        Clusters.
    n_heads
        h.
    hidden, bottleneck
        Widths of the two layers.
    """

    def __init__(
        self, n_features: int, k: int, n_heads: int, hidden: int = 512, bottleneck: int = 256
    ) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.empty(n_heads, n_features, hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(n_heads, 1, hidden))
        self.bottleneck = nn.Parameter(torch.empty(n_heads, hidden, bottleneck))
        self.bottleneck_bias = nn.Parameter(torch.zeros(n_heads, 1, bottleneck))
        for weight in (self.hidden, self.bottleneck):
            nn.init.trunc_normal_(weight, std=0.02)
        self.directions = nn.Parameter(torch.rand(n_heads, bottleneck, k) * 2 - 1)
        self.lengths = nn.Parameter(torch.ones(n_heads, 1, k))

    def forward(self, x: Tensor) -> Tensor:  # (b, d)
        x = F.gelu(x @ self.hidden + self.hidden_bias)  # (h, b, hidden)
        x = torch.baddbmm(self.bottleneck_bias, x, self.bottleneck)  # (h, b, bottleneck)
        x = F.normalize(x, dim=-1) @ F.normalize(self.directions, dim=1)
        return (x * self.lengths / _TEMPERATURE).softmax(-1)  # (h, b, k)


def agreement(t: Tensor, u: Tensor) -> Tensor:
    """How surely two images are of one cluster, by all heads: the weight of the pair.

    Parameters
    ----------
    t, u
        (h, b, k) the teachers' assignments.

    Returns
    -------
    Tensor
        (b,) in [0, 1].
    """
    return (t * u).sum(-1).mean(0)


def temi_loss(s: Tensor, t: Tensor, prior: Tensor, weight: Tensor, beta: float = 0.6) -> Tensor:
    """Negative pointwise mutual information of pairs, each with its weight.

    Parameters
    ----------
    s, t
        (h, b, k) the student's assignments of images, the teacher's of their neighbours.
    prior
        (h, 1, k) running mean of the teacher's assignments.
    weight
        (b,) from :func:`agreement`.
    beta
        β <= 1 keeps a cluster from taking all.

    Returns
    -------
    Tensor
        (h,).
    """
    # The derivative of a power below 1 is infinite at 0, where a sure assignment underflows to.
    joint = (s * t).clamp_min(torch.finfo(s.dtype).tiny) ** beta
    return -(weight * (joint / prior).sum(-1).log()).mean(-1)


def temi(
    features: np.ndarray,
    k: int,
    seed: int,
    *,
    n_heads: int = 8,
    n_neighbours: int = 50,
    n_components: int = 128,
    min_epochs: int = 100,
    min_steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 1e-4,
    momentum: float = 0.996,
    beta: float = 0.6,
) -> np.ndarray:
    """Train heads so that the mutual information of neighbours' assignments is greatest.

    Heads, temperatures, β = 0.6, γ = 1, 50 neighbours, the teacher's momentum, AdamW with its
    warm-up over a fifth of the steps and 100 epochs are those of the paper and of the command
    that its authors give; the head with the lowest loss over the last epoch answers, by its
    teacher. Adapted, for one processor core: 8 heads, where the paper trains 50 and the command
    16; the input is principal components, scaled to channels of unit size. Batches of 256 at the
    rate that the authors' linear rule gives them make, in small sets, as many steps as theirs of
    1,024 do in CIFAR-10's 50,000 images.

    On one core, shared with others, 3,925 images took 4 to 7 minutes.

    Parameters
    ----------
    features
        (n, v, t, d).
    k
        Clusters.
    seed
        Of the weights, batches and neighbours.
    n_heads, n_neighbours, n_components
        Heads side by side, neighbours of an image, width of the input.
    min_epochs, min_steps
        The training ends when both are reached.
    batch_size, learning_rate
        Of AdamW.
    momentum
        Share of the teacher that a step keeps.
    beta
        β of the loss.

    Returns
    -------
    ndarray
        (n,) labels.
    """
    embeddings = torch.from_numpy(mean_embedding(features))  # (n, d)
    n = len(embeddings)
    neighbours = nearest_neighbours(embeddings, min(n_neighbours, n - 1))
    x = _project(embeddings, n_components, seed)  # (n, c)
    n_batches = math.ceil(n / batch_size)
    epochs = max(min_epochs, math.ceil(min_steps / n_batches))
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        student = Heads(x.shape[1], k, n_heads)
    teacher = copy.deepcopy(student).requires_grad_(False)
    prior = torch.full((n_heads, 1, k), 1 / k)
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate, weight_decay=1e-4)
    warm_up = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (0.2 * epochs * n_batches))
    )
    for _ in range(epochs):
        losses = torch.zeros(n_heads)
        for rows in torch.randperm(n, generator=generator).tensor_split(n_batches):
            column = torch.randint(neighbours.shape[1], rows.shape, generator=generator)
            both = torch.cat([x[rows], x[neighbours[rows, column]]])  # (2b, c)
            s, s_near = student(both).chunk(2, dim=1)  # (h, b, k) each
            targets = teacher(both)
            t, t_near = targets.chunk(2, dim=1)
            prior = _PRIOR_MOMENTUM * prior + (1 - _PRIOR_MOMENTUM) * targets.mean(1, keepdim=True)
            weight = agreement(t, t_near)
            loss = temi_loss(s, t_near, prior, weight, beta) / 2
            loss = loss + temi_loss(s_near, t, prior, weight, beta) / 2
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            warm_up.step()
            with torch.no_grad():
                for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                    old.lerp_(new, 1 - momentum)
            losses += loss.detach()
    p = torch.cat([teacher(part)[losses.argmin()] for part in x.split(_CHUNK)])  # (n, k)
    return p.argmax(-1).numpy()


def _project(embeddings: Tensor, n_components: int, seed: int) -> Tensor:
    """Principal components (n, c), scaled to channels of about unit size."""
    pca = PCA(min(n_components, *embeddings.shape), random_state=seed)
    x = torch.from_numpy(pca.fit_transform(embeddings.numpy()))
    return x * (x.shape[1] ** 0.5 / x.norm(dim=-1).mean())
