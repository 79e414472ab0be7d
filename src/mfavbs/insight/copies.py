"""Which images are copies of each other: the same file, or the same picture made anew.

In: embeddings (n, d), thumbnails (n, 32, 32), contents (n,). Out: a group (n,) for each image.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mfavbs.insight.alignment import match, thumbnail_directions
from mfavbs.memory import let_go
from mfavbs.model import EMBEDDINGS, INDEX, Room, make_room, nearest_neighbours

_MISSED = 0.01  # pairs of views of one image that are not looked at
_NEAREST = 10  # images that each is compared with, by embedding, and as many by thumbnail
# Correlations from which on two pictures are one; measured by benchmarks/insight_copies.py.
_ALIKE, _DETAIL = 0.95, 0.65
_CHUNK = 16_384  # images whose pairs are looked at at once
_UNBOUNDED = Room(2**60)
_ALL_PAIRS = 200  # images of a chain up to which all are compared with all


class OneOrTwo(NamedTuple):
    """Two embeddings are of one image, or of two: a normal model of each direction.

    Attributes
    ----------
    within, between
        (d,) variances of views of an image, and of images.
    threshold
        Of the logarithm of the likelihood ratio: 99 % of pairs of views of one image reach it, and
        it is at most 0, where one image is as likely as two.
    """

    within: np.ndarray
    between: np.ndarray
    threshold: float

    def log_ratio(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Logarithm of the likelihood of one image over that of two, (p,), for (p, d) and (p, d).

        Probabilistic linear discriminant analysis (Ioffe, ECCV 2006), each direction by itself.
        """
        total = self.within + self.between
        r = self.between / total  # what two views of one image correlate by
        squares = (a * a + b * b) @ (r * r / (total * (1 - r * r)))
        products = (a * b) @ (2 * r / (total * (1 - r * r)))
        return (products - squares) / 2 - np.log(1 - r * r).sum() / 2


def fit_one_or_two(tokens: np.ndarray) -> OneOrTwo | None:
    """Fit the model to views of some images, half of an image's views against the other half.

    Parameters
    ----------
    tokens
        (m, v, d) projected.

    Returns
    -------
    OneOrTwo or None
        None with one view or one image: nothing is known of what views of an image have in common.
    """
    m, v, _ = tokens.shape
    if v < 2 or m < 2:
        return None
    halves = [_directions(tokens[:, half].mean(1)) for half in (slice(0, v // 2), slice(v // 2, v))]
    a, b = (half.astype(np.float64) for half in halves)
    centre = (a + b).mean(0) / 2
    a, b = a - centre, b - centre
    least = 1e-9 + 1e-6 * (a * a + b * b).mean()
    within = ((a - b) ** 2).mean(0) / 2
    between = (((a + b) / 2) ** 2).mean(0) - within / 2
    model = OneOrTwo(within.clip(least), between.clip(least), 0.0)
    reached = float(np.quantile(model.log_ratio(a, b), _MISSED))
    return model._replace(threshold=min(reached, 0.0))


def group_copies(
    contents: np.ndarray,
    embeddings: np.ndarray,
    greys: np.ndarray | None,
    model: OneOrTwo | None,
    large: np.ndarray | None = None,
    room: Room = _UNBOUNDED,
) -> np.ndarray:
    """Group the images that are copies of each other.

    Equal contents are copies. So are pictures that the model takes for one image, and of which one
    laid over the other, up to a fifth of its edges cut, matches it. In a group each picture is a
    copy of each other one: where A is like B and B like C, but A not like C, C is in no group of
    both.

    Parameters
    ----------
    contents
        (n,) a number for each content.
    embeddings
        (n, d) of unit length.
    greys
        (n, 32, 32) uint8, or None: then only equal contents are copies.
    model
        Which pairs of pictures are looked at; all near ones if None.
    large
        (n,) whether a picture is large enough to be told from others; all by default.
    room
        What may be held in memory of all pictures, and of the search for near ones.

    Returns
    -------
    ndarray
        (n,) int32 number of the image's group, -1 where it is in none. Groups are numbered by their
        first image.
    """
    _, rows, of = np.unique(contents, return_index=True, return_inverse=True)
    group = np.arange(len(rows))  # of each content
    if greys is not None and len(rows) > 1:
        large = np.ones(len(greys), bool) if large is None else large
        pairs = _near_pairs(embeddings, greys, rows, large, model, room)
        group = _cliques(len(rows), _matching(greys, rows, pairs), greys, rows)
    group = group[of]
    several = np.bincount(group)[group] > 1
    first = np.unique(group[several], return_index=True)
    order = np.full(len(rows) + 1, -1, np.int32)
    order[first[0][np.argsort(first[1])]] = np.arange(len(first[0]))
    return np.where(several, order[group], -1).astype(np.int32)


def _near_pairs(
    embeddings: np.ndarray,
    greys: np.ndarray,
    rows: np.ndarray,
    large: np.ndarray,
    model: OneOrTwo | None,
    room: Room,
) -> np.ndarray:
    """Pairs (p, 2) of contents whose pictures may be copies, the lower first.

    ``rows``: (m,) the image that each content is looked at by.
    """
    m = len(rows)

    def thumbnails(part: np.ndarray) -> torch.Tensor:
        shown = torch.from_numpy(large[part])[:, None]
        return thumbnail_directions(greys[part]) * shown  # of no contrast, nobody's like

    near = [
        _nearest(lambda part: torch.from_numpy(embeddings[part]).float(), rows, room),
        _nearest(thumbnails, rows, room),
    ]
    found = []
    for start in range(0, m, _CHUNK):
        theirs = np.concatenate([columns[start : start + _CHUNK] for columns in near], axis=1)
        own = np.repeat(np.arange(start, start + len(theirs)), theirs.shape[1])
        low, high = np.minimum(own, theirs.ravel()), np.maximum(own, theirs.ravel())
        code = np.unique(low.astype(np.int64) * m + high)
        pairs = rows[np.stack(np.divmod(code, m), axis=1)]
        may = large[pairs].all(1)
        if model is not None:
            a, b = (embeddings[side] for side in pairs.T)
            may &= model.log_ratio(a, b) >= model.threshold
        found.append(code[may])
        let_go(embeddings)
    return np.stack(np.divmod(np.unique(np.concatenate(found)), m), axis=1)


def _nearest(
    directions: Callable[[np.ndarray], torch.Tensor], rows: np.ndarray, room: Room
) -> np.ndarray:
    """(m, at most 10) the nearest of some images by their directions."""
    parts = np.split(rows, range(_CHUNK, len(rows), _CHUNK))
    points = make_room((len(rows), directions(rows[:1]).shape[1]), EMBEDDINGS, room)
    for start, part in zip(range(0, len(rows), _CHUNK), parts, strict=True):
        points[start : start + len(part)] = directions(part)
    n_near = min(_NEAREST, len(rows) - 1)
    return nearest_neighbours(points, n_near, int(INDEX * room.memory)).numpy()


def _matching(
    greys: np.ndarray, rows: np.ndarray, pairs: np.ndarray
) -> dict[tuple[int, int], float]:
    """Those pairs of contents whose pictures match, and how well."""
    whole, detail = match(greys, rows[pairs]).T
    same = (whole >= _ALIKE) & (detail >= _DETAIL)
    return {(int(a), int(b)): float(c) for (a, b), c in zip(pairs[same], whole[same])}


def _cliques(
    n: int, alike: Mapping[tuple[int, int], float], greys: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """(n,) groups whose every pair is alike: complete linkage, the best pairs first."""
    group = np.arange(n)
    if not alike:
        return group
    a, b = np.array(list(alike)).T
    _, chain = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(n, n)), False)
    order = np.argsort(chain, kind="stable")
    pairs = dict(alike)
    missing = []
    for links in np.split(order, np.flatnonzero(np.diff(chain[order])) + 1):
        if 2 < len(links) <= _ALL_PAIRS:  # those that are not each other's nearest as well
            all_pairs = np.stack(np.triu_indices(len(links), 1), axis=1)
            missing += [pair for pair in links[all_pairs].tolist() if tuple(pair) not in pairs]
    if missing:
        pairs |= _matching(greys, rows, np.array(missing))
    members: dict[int, list[int]] = {}
    for (a, b), _ in sorted(pairs.items(), key=lambda item: (-item[1], item[0])):
        one, two = (members.setdefault(int(group[row]), [int(group[row])]) for row in (a, b))
        if one is not two and all((min(i, j), max(i, j)) in pairs for i in one for j in two):
            members[one[0]] = one + two
            group[two] = one[0]
    return group


def _directions(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12)
