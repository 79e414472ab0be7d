"""How far to trust a clustering: what refits of the heads on parts of the images say.

In: embeddings (n, d), clusters (n,). Out: the centres (b, k, d) of b refits, numbered as these; of
every image the share of refits that agree, of every cluster its Jaccard stability.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mfavbs.memory import let_go
from mfavbs.model import kmeans, nearest_neighbours
from mfavbs.runs import continue_numbers

_REFITS = 20
_SAMPLE = 10_000  # images that refits are fitted on halves of
_STARTS = 3  # of k-means in each
_NEIGHBOURS = 20  # of which half are in the half
_SMOOTHINGS = 3
_ANSWERS = 2**24  # looked at at once: a quarter of a GiB with what is made of them
_CHUNK = 16_384


def refit_heads(
    embeddings: np.ndarray, labels: np.ndarray, k: int, seed: int, n_refits: int = _REFITS
) -> np.ndarray:
    """Centres of heads fitted anew on random halves of the images.

    A refit starts its heads as training does: by k-means on embeddings that are averaged with
    their neighbours, here those in the half. Its clusters are matched to ``labels`` one to one
    by the images that they share (Hungarian). More than 10,000 images are represented by as many.

    Parameters
    ----------
    embeddings
        (n, d) of unit length.
    labels
        (n,) clusters, in 0..k-1.
    k
        Clusters.
    seed
        Of the halves and of the starts.
    n_refits
        b.

    Returns
    -------
    ndarray
        (b, k, d) float16 of unit length; zero where a half has fewer distinct images than k.
    """
    rng = np.random.default_rng(seed)
    n, d = embeddings.shape
    sample = np.sort(rng.permutation(n)[:_SAMPLE])
    points = torch.from_numpy(embeddings[sample])
    m = min(_NEIGHBOURS, len(points) - 1)
    none = torch.empty((len(points), 0), dtype=torch.int64)
    neighbours = nearest_neighbours(points, m) if m else none
    found = np.zeros((n_refits, k, d), np.float16)
    for centres in found:
        half = torch.zeros(len(points), dtype=torch.bool)
        half[torch.from_numpy(rng.permutation(len(points))[: -(-len(points) // 2)])] = True
        fitted = _refit(points, neighbours, half, k, int(rng.integers(2**31)))
        clusters = heads_say(points.numpy(), fitted[None])[0]
        centres[continue_numbers(labels[sample], clusters, k, k)] = fitted
    return found


def _refit(
    points: torch.Tensor, neighbours: torch.Tensor, half: torch.Tensor, k: int, seed: int
) -> np.ndarray:
    """Centres (k, d) of a k-means on a half of the points, averaged with neighbours in it."""
    weight = half[neighbours].to(points.dtype)  # (m, b)
    smooth = points
    for _ in range(_SMOOTHINGS):
        total = smooth.clone()
        for column, share in zip(neighbours.T, weight.T, strict=True):
            total += smooth[column] * share[:, None]
        smooth = F.normalize(total, dim=-1)
    chosen = smooth[half]
    n_found = min(k, len(chosen.round(decimals=5).unique(dim=0)))
    labels, inertia = kmeans(chosen, n_found, _STARTS, seed)
    member = F.one_hot(labels[inertia.argmin()], k).to(points.dtype)
    return F.normalize(member.T @ points[half], dim=-1).numpy()


def heads_say(embeddings: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest of each refit's centres (b, k, d) to every image (n, d): (b, n) int32."""
    b, k, d = centres.shape
    flat = centres.astype(np.float32).reshape(b * k, d)
    missing = ~flat.any(1)  # nobody's nearest
    found = np.empty((b, len(embeddings)), np.int32)
    chunk = max(1, min(_CHUNK, _ANSWERS // (b * k)))
    for start in range(0, len(embeddings), chunk):
        part = slice(start, start + chunk)
        near = embeddings[part] @ flat.T
        near[:, missing] = -np.inf
        found[:, part] = near.reshape(-1, b, k).argmax(2).T
        let_go(embeddings)
    return found


def agreement(labels: np.ndarray, refits: np.ndarray) -> np.ndarray:
    """Share of refits (b, n) in which an image is in its cluster, (n,) in [0, 1]."""
    return (refits == labels).mean(0)


def cluster_stability(labels: np.ndarray, refits: np.ndarray, k: int) -> np.ndarray:
    """Jaccard stability of every cluster, (k,): Hennig, CSDA 2007.

    The mean over refits of the largest Jaccard index that a cluster has with one of the refit; 0
    for an empty cluster.
    """
    size = np.bincount(labels, minlength=k)
    found = np.zeros(k)
    for refit in refits:
        shared = np.bincount(labels * k + refit, minlength=k * k).reshape(k, k)
        union = size[:, None] + np.bincount(refit, minlength=k) - shared
        found += (shared / np.maximum(union, 1)).max(1)
    return found / max(1, len(refits))
