"""k-means, all its starts at once, on any device.

In: points (n, d). Out: for each start the labels (n,) and the inertia.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 300  # of Lloyd's, at the most
_STILL = 1e-4  # centres that move less, as a share of the points' mean variance, have settled
_NUMBERS = 2**26  # held at once: bounds a matrix of distances to a quarter of a GiB


def kmeans(points: Tensor, k: int, n_starts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from greedy k-means++ (Arthur and Vassilvitskii, SODA 2007).

    As scikit-learn's, which runs on CPUs and one start after the other; a cluster that loses all
    its points keeps its centre.

    Parameters
    ----------
    points
        (n, d), n >= k.
    k
        Clusters.
    n_starts
        r.
    seed
        Of the starts.

    Returns
    -------
    tuple of Tensor
        (r, n) labels and (r,) inertia, the sum of squared distances to the nearest centre.
    """
    points = points - points.mean(0)  # small numbers lose less in ||x||^2 - 2 x.c + ||c||^2
    centres = _plus_plus(points, k, n_starts, seed)  # (r, k, d)
    still = _STILL * points.var(0, correction=0).mean()
    moving = torch.arange(n_starts, device=points.device)
    for _ in range(_ROUNDS):
        before = centres[moving]
        labels, _ = _nearest(points, before)
        after = _means(points, labels, before)
        centres[moving] = after
        moving = moving[(after - before).square().sum((1, 2)) > still]
        if not len(moving):
            break
    return _nearest(points, centres)


def rand_index(one: Tensor, other: Tensor) -> float:
    """How far two partitions (n,) agree: the adjusted Rand index (Hubert and Arabie, 1985)."""
    k = int(other.max()) + 1
    counts = (
        (one * k + other).bincount(minlength=(int(one.max()) + 1) * k).view(-1, k).double().cpu()
    )
    both, left, right = (
        (count * (count - 1) / 2).sum() for count in (counts, counts.sum(1), counts.sum(0))
    )
    n_pairs = len(one) * (len(one) - 1) / 2
    expected = left * right / n_pairs
    possible = (left + right) / 2 - expected
    return 1.0 if possible == 0 else float((both - expected) / possible)


def _plus_plus(points: Tensor, k: int, n_starts: int, seed: int) -> Tensor:
    """Starting centres (r, k, d): each the best of a few points drawn by squared distance."""
    device = points.device
    generator = torch.Generator(device).manual_seed(seed)
    n, n_tried = len(points), 2 + int(math.log(k))  # as scikit-learn
    squares = points.square().sum(1)  # (n,)
    chosen = torch.randint(n, (n_starts, 1), generator=generator, device=device)  # (r, 1)
    nearest = _distances(points, squares, chosen)[:, 0]  # (r, n)
    for _ in range(k - 1):
        weight = nearest.cumsum(-1)
        drawn = torch.rand(n_starts, n_tried, generator=generator, device=device).to(weight)
        tried = torch.searchsorted(weight, drawn * weight[:, -1:]).clamp_max(n - 1)  # (r, c)
        parts = [
            _best(points, squares, *part)
            for part in zip(_parts(tried, n * n_tried), _parts(nearest, n * n_tried), strict=True)
        ]
        best, nearest = (torch.cat(part) for part in zip(*parts, strict=True))
        chosen = torch.cat([chosen, best], dim=1)
    return points[chosen]


def _best(points: Tensor, squares: Tensor, tried: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Of (r, c) candidate points the one that leaves least, (r, 1), and what it leaves (r, n)."""
    left = torch.minimum(nearest[:, None], _distances(points, squares, tried))  # (r, c, n)
    best = left.sum(-1).argmin(1, keepdim=True)  # (r, 1)
    return tried.gather(1, best), left.take_along_dim(best[..., None], 1)[:, 0]


def _distances(points: Tensor, squares: Tensor, rows: Tensor) -> Tensor:
    """Squared distances (r, c, n) of the points in ``rows`` (r, c) from all."""
    products = points[rows] @ points.T  # (r, c, n)
    return (squares[rows][..., None] - 2 * products + squares).clamp_min_(0)


def _nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (r, n) of the nearest of (r, k, d) centres, and the inertia (r,)."""
    r, k, _ = centres.shape
    flat = centres.flatten(0, 1)  # (r k, d)
    offset = flat.square().sum(1) / 2
    labels, inertia = [], flat.new_zeros(r)
    for part in _parts(points, r * k):
        score = torch.addmm(-offset, part, flat.T).view(len(part), r, k)
        best, label = score.max(-1)  # (b, r)
        labels.append(label)
        inertia += (part.square().sum(1, keepdim=True) - 2 * best).clamp_min(0).sum(0)
    return torch.cat(labels).T.contiguous(), inertia


def _means(points: Tensor, labels: Tensor, before: Tensor) -> Tensor:
    """Means (r, k, d) of the points of every label; of none, the centre of before."""
    if points.device.type != "cpu":
        return _means_by_products(points, labels, before)
    total = torch.zeros_like(before)
    for label, sums in zip(labels, total, strict=True):
        sums.index_add_(0, label, points)
    count = torch.stack([label.bincount(minlength=before.shape[1]) for label in labels])  # (r, k)
    return torch.where(count[..., None] > 0, total / count.clamp_min(1)[..., None], before)


def _means_by_products(points: Tensor, labels: Tensor, before: Tensor) -> Tensor:
    """The same; a GPU would add in any order, and round differently each time."""
    r, k, _ = before.shape
    total = torch.zeros_like(before)
    count = before.new_zeros(r, k)
    for part, label in zip(_parts(points, r * k), _parts(labels.T, r * k), strict=True):
        member = F.one_hot(label.T, k).to(part.dtype)  # (r, b, k)
        total += member.mT @ part
        count += member.sum(1)
    return torch.where(count[..., None] > 0, total / count.clamp_min(1)[..., None], before)


def _parts(rows: Tensor, numbers_per_row: int) -> tuple[Tensor, ...]:
    return rows.split(max(1, _NUMBERS // numbers_per_row))
