"""How far to trust a clustering: what refits of the heads on parts of the images say.

In: embeddings (n, d), clusters (n,). Out: clusters (b, n) of b refits, numbered as these; of
every image the share of refits that agree, of every cluster its Jaccard stability.
"""

import numpy as np
import torch

from mfavbs.insight.identity import continue_numbers
from mfavbs.model import kmeans, nearest_neighbours

_REFITS = 20
_SAMPLE = 10_000  # images that refits are fitted on halves of
_STARTS = 3  # of k-means in each
_NEIGHBOURS = 10
_CHUNK = 65_536


def refit_heads(
    embeddings: np.ndarray, labels: np.ndarray, k: int, seed: int, n_refits: int = _REFITS
) -> np.ndarray:
    """Clusters of all images by heads fitted anew on random halves of them.

    A refit starts its heads as training does: by k-means on embeddings that are averaged with
    their neighbours, here those in the half. Its clusters are matched to ``labels`` one to one
    by the images that they share (Hungarian).

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
        (b, n) int32.
    """
    rng = np.random.default_rng(seed)
    n = len(embeddings)
    sample = np.sort(rng.permutation(n)[:_SAMPLE])
    points = torch.from_numpy(embeddings[sample])
    smooth_by = None
    m = min(2 * _NEIGHBOURS, len(points) - 1)
    if m > 0:
        smooth_by = nearest_neighbours(points, m)
    found = np.empty((n_refits, n), np.int32)
    for refit in found:
        half = torch.from_numpy(rng.random(len(points)) < 0.5)
        refit[:] = _refit(embeddings, points, smooth_by, half, k, int(rng.integers(2**31)))
        refit[:] = continue_numbers(labels, refit, k, k)[refit]
    return found


def _refit(
    embeddings: np.ndarray,
    points: torch.Tensor,
    neighbours: torch.Tensor | None,
    half: torch.Tensor,
    k: int,
    seed: int,
) -> np.ndarray:
    """Nearest centres (n,) of a k-means on a half of the points, averaged with neighbours in it."""
    smooth = points
    if neighbours is not None:
        weight = half[neighbours].to(points.dtype)  # (m, b)
        for _ in range(3):
            total = points.new_zeros(points.shape)
            for column, share in zip(neighbours.T, weight.T, strict=True):
                total += smooth[column] * share[:, None]
            smooth = torch.nn.functional.normalize(smooth + total, dim=-1)
    chosen, own = smooth[half], points[half]
    k = min(k, len(chosen.round(decimals=5).unique(dim=0)))
    if not k:
        return np.zeros(len(embeddings), np.int32)
    labels, inertia = kmeans(chosen, k, _STARTS, seed)
    member = torch.nn.functional.one_hot(labels[inertia.argmin()], k).to(points.dtype)
    centres = torch.nn.functional.normalize(member.T @ own, dim=-1).numpy()  # (k, d)
    return np.concatenate(
        [
            (embeddings[start : start + _CHUNK] @ centres.T).argmax(1)
            for start in range(0, len(embeddings), _CHUNK)
        ]
    )


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
