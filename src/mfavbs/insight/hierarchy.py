"""The clusters of a run in one tree: joined upwards, and split downwards.

In: embeddings (n, d), clusters (n,). Out: a leaf for each image, the joins of leaves in their
order, and of each node the share of resamples in which it came back.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array

from mfavbs.memory import let_go
from mfavbs.model import kmeans

SCHEMA = 1
_LEAVES = 8  # of a cluster, on average
_MOST_LEAVES = 128  # in all, or twice as many as clusters
_LEAST_SIZE = 8  # images in a leaf, on average
_SAMPLE = 10_000  # images that the leaves of one cluster are found on
_RESAMPLED = 5_000  # images that resamples are halves of
_RESAMPLES = 10
_STARTS = 3
_MOST_JUDGED = 2_000  # leaves
_SAME = 0.75  # Jaccard index from which a node has come back (Hennig, CSDA 2007)
_CHUNK = 65_536


class Tree(NamedTuple):
    """A tree over n images. Nodes 0..m-1 are leaves, node m + i is what join i makes.

    Attributes
    ----------
    leaf
        (n,) int32 leaf of every image.
    cluster
        (m,) cluster of every leaf.
    joins
        (m-1, 2) the two nodes of each join, in order: first all within clusters, then of them.
    cost
        (m-1,) what each join adds to the scatter within, as a share of the whole (Ward, 1963).
    """

    leaf: np.ndarray
    cluster: np.ndarray
    joins: np.ndarray
    cost: np.ndarray


def grow_tree(embeddings: np.ndarray, labels: np.ndarray, k: int, seed: int) -> Tree:
    """Split every cluster by k-means, and join the parts again until all are one.

    Two nodes are joined whose join adds least to the scatter within; first those of one cluster,
    so that every cluster is a node of the tree.

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n >= 1.
    labels
        (n,) clusters, in 0..k-1.
    k
        Clusters; one without an image is not in the tree.
    seed
        Of the k-means' starts.
    """
    n = len(labels)
    target = max(k, min(_LEAVES * k, max(_MOST_LEAVES, 2 * k), _MOST_JUDGED))
    leaf = np.empty(n, np.int32)
    cluster: list[int] = []
    parts = []
    for number in range(k):
        rows = np.flatnonzero(labels == number)
        if not len(rows):
            continue
        wanted = max(1, min(round(target * len(rows) / n), len(rows) // _LEAST_SIZE))
        part = _split(embeddings, rows, wanted, seed + number)
        leaf[rows] = part + len(cluster)
        parts.append(np.arange(part.max() + 1) + len(cluster))
        cluster += [number] * len(parts[-1])
    m = len(cluster)
    means, sizes = _means(embeddings, leaf, m)
    inside = [
        (part[pair], cost) for part in parts for pair, cost in _ward(means[part], sizes[part])
    ]
    inside.sort(key=lambda join: join[1])  # stable, so that a part is joined before its whole
    of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])  # (m,)
    first = np.array([part[0] for part in parts])
    above = _ward(*_means(means, of, len(parts), sizes))
    pairs = [pair for pair, _ in inside] + [first[pair] for pair, _ in above]
    mean = sum(part.sum(0, dtype=np.float64) for part in _parts(embeddings)) / n
    squares = sum(float(np.einsum("nd,nd->", part, part)) for part in _parts(embeddings))
    scatter = squares - n * float(mean @ mean)
    cost = np.array([cost for _, cost in inside + above]) / max(scatter, 1e-9)
    return Tree(leaf, np.array(cluster), _joins(pairs, m), cost)


def returns(embeddings: np.ndarray, tree: Tree, seed: int) -> np.ndarray:
    """Share of resamples in which a node came back, (2 m - 1,), the leaves first.

    A resample is a tree grown from k-means on a random half of the images, which knows of no
    cluster. A node has come back if one of its nodes has a Jaccard index of 0.75 or more with it,
    over all images or a sample of 5,000. Of more leaves than 2,000 it is not known, NaN: so few
    images do not tell.

    Parameters
    ----------
    embeddings
        (n, d), as in :func:`grow_tree`.
    tree
        From there.
    seed
        Of the sample, the halves and the starts.
    """
    m = len(tree.cluster)
    if m > _MOST_JUDGED:
        return np.full(m + len(tree.joins), np.nan)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(embeddings))[:_RESAMPLED])
    points, leaf = embeddings[rows], tree.leaf[rows]
    found = np.zeros(m + len(tree.joins))
    for _ in range(_RESAMPLES):
        half = rng.random(len(points)) < 0.5
        all_rows = np.arange(len(points))
        other = _split(points, all_rows, m, int(rng.integers(2**31)), np.flatnonzero(half))
        q = int(other.max()) + 1
        joins = _joins([pair for pair, _ in _ward(*_means(points, other, q))], q)
        shared = np.bincount(leaf * q + other, minlength=m * q).reshape(m, q)
        both = _of_nodes(_of_nodes(shared, tree.joins).T, joins).T  # (2 m - 1, 2 q - 1)
        either = both[:, -1:] + both[-1] - both  # the roots hold all
        found += (both >= _SAME * np.maximum(either, 1)).any(1)
    return found / _RESAMPLES


def order_clusters(embeddings: np.ndarray, tree: Tree) -> list[int]:
    """Clusters in the order of the tree; of two that are joined, their nearest ends side by side.

    Parameters
    ----------
    embeddings
        (n, d), as in :func:`grow_tree`.
    tree
        From there.
    """
    m = len(tree.cluster)
    k = int(tree.cluster.max()) + 1
    means, _ = _means(embeddings, tree.cluster[tree.leaf], k)
    rows: dict[int, list[int]] = {leaf: [number] for leaf, number in enumerate(tree.cluster)}
    for new, (a, b) in enumerate(tree.joins.tolist(), start=m):
        left, right = rows.pop(a), rows.pop(b)
        if left == right:  # parts of one cluster
            rows[new] = left
            continue
        ways = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
        x, y = min(ways, key=lambda way: ((means[way[0][-1]] - means[way[1][0]]) ** 2).sum())
        rows[new] = x + y
    return [int(number) for number in rows.popitem()[1]]


def describe_tree(
    embeddings: np.ndarray, labels: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Leaves (n,) of all images, and the content of hierarchy.json.

    Parameters
    ----------
    embeddings, labels, k, seed
        As in :func:`grow_tree`.

    Returns
    -------
    tuple
        Leaves; and ``n_clusters``, ``n_leaves``, ``order`` of the clusters in the tree, and
        ``nodes``, the leaves first and the root last. A node has its ``size``, its ``children``
        (two nodes, or none), the ``cluster`` it is or is a part of (None above), what its join
        ``cost``, and how often it ``came_back``.
    """
    tree = grow_tree(embeddings, labels, k, seed)
    m = len(tree.cluster)
    sizes = _of_nodes(np.bincount(tree.leaf, minlength=m), tree.joins).tolist()
    children = [[]] * m + tree.joins.tolist()
    of: list[int | None] = tree.cluster.tolist()
    for a, b in tree.joins:
        of.append(of[a] if of[a] == of[b] else None)
    cost = [0.0] * m + tree.cost.round(6).tolist()
    back = [None if np.isnan(share) else share for share in returns(embeddings, tree, seed)]
    columns = {"size": sizes, "children": children, "cluster": of, "cost": cost, "came_back": back}
    nodes = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    order = order_clusters(embeddings, tree)
    about = {"schema": SCHEMA, "n_clusters": k, "n_leaves": m, "n_resamples": _RESAMPLES}
    return tree.leaf, about | {"order": order, "nodes": nodes}


def _split(
    points: np.ndarray, rows: np.ndarray, wanted: int, seed: int, fitted: np.ndarray | None = None
) -> np.ndarray:
    """Parts (m,) of some rows by k-means, on ``fitted`` of them or a sample; none is empty."""
    if fitted is None:
        fitted = rows[np.random.default_rng(seed).permutation(len(rows))]
    some = torch.from_numpy(points[np.sort(fitted[:_SAMPLE])])
    wanted = min(wanted, len(some.round(decimals=5).unique(dim=0)))
    if wanted < 2:
        return np.zeros(len(rows), np.int32)
    labels, inertia = kmeans(some, wanted, _STARTS, seed)
    centres, _ = _means(some.numpy(), labels[inertia.argmin()].numpy(), wanted)
    offset = (centres**2).sum(1) / 2
    found = [
        (points[part] @ centres.T - offset).argmax(1)
        for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK))
    ]
    return np.unique(np.concatenate(found), return_inverse=True)[1].astype(np.int32)


def _means(
    points: np.ndarray, labels: np.ndarray, k: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Means (k, d) of points by label, weighted, and the weights (k,)."""
    weight = np.ones(len(points)) if weight is None else weight
    total: Any = 0
    for at, part in enumerate(_parts(points)):
        here = slice(at * _CHUNK, at * _CHUNK + len(part))
        place = (labels[here], np.arange(len(part)))
        total = total + csr_array((weight[here], place), shape=(k, len(part))) @ part
    size = np.bincount(labels, weight, minlength=k)
    return (total / np.maximum(size, 1)[:, None]).astype(np.float32), size


def _parts(points: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(points), _CHUNK):
        yield points[start : start + _CHUNK]
        let_go(points)


def _joins(pairs: list[np.ndarray], m: int) -> np.ndarray:
    """Nodes (len(pairs), 2) of the joins of m leaves, from two leaves of each join."""
    node = np.arange(m)
    joins = np.empty((len(pairs), 2), int)
    for new, (a, b) in enumerate(pairs):
        joins[new] = node[a], node[b]
        node[(node == node[a]) | (node == node[b])] = m + new
    return joins


def _of_nodes(of_leaves: np.ndarray, joins: np.ndarray) -> np.ndarray:
    """Counts (2 m - 1, ...) of all nodes from those of the m leaves."""
    m = len(of_leaves)
    counts = np.empty((m + len(joins), *of_leaves.shape[1:]), of_leaves.dtype)
    counts[:m] = of_leaves
    for new, (a, b) in enumerate(joins, start=m):
        counts[new] = counts[a] + counts[b]
    return counts


def _ward(means: np.ndarray, sizes: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Pairs of points whose nodes are joined, and the cost, by Ward's rule; cheapest first.

    By chains of nearest neighbours (Murtagh, 1983): no matrix of distances is held.
    """
    centre, size = means.astype(np.float64).copy(), sizes.astype(np.float64).copy()
    length = (centre**2).sum(1)
    alive = np.ones(len(size), bool)
    chain: list[int] = []
    found: list[tuple[np.ndarray, float]] = []
    while len(found) < len(size) - 1:
        if not chain:
            chain.append(int(alive.argmax()))
        a = chain[-1]
        squares = length + length[a] - 2 * centre @ centre[a]
        cost = squares.clip(0) * (size * size[a] / (size + size[a]))
        cost[~alive] = np.inf
        cost[a] = np.inf
        b = int(cost.argmin())
        if len(chain) > 1 and cost[chain[-2]] <= cost[b]:  # nearest to each other
            b = chain[-2]
            del chain[-2:]
            found.append((np.array([a, b]), float(cost[b])))
            centre[a] = (size[a] * centre[a] + size[b] * centre[b]) / (size[a] + size[b])
            length[a] = centre[a] @ centre[a]
            size[a] += size[b]
            alive[b] = False
        else:
            chain.append(b)
    return sorted(found, key=lambda join: join[1])
