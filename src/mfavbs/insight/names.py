"""What a cluster may be called: words that are near to it and far from the others.

In: features (n, f) of images and vectors (w, f) of words in the same space; or the images' paths
and dates. Out: a few words for each cluster, best first, each with a score and its margin.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from mfavbs.memory import let_go

_CHUNK = 16_384  # words or images looked at at once
# Words of file names: letters and digits apart, and where small letters turn into capitals.
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_TURN = re.compile(r"(?<=[a-zà-þ])(?=[A-ZÀ-Þ])")
_YEAR = re.compile(r"(19|20)\d\d")
_SAYS_NOTHING = re.compile(r"\d+|[a-z]")
_SURE = 3.0  # standard deviations by which a word's share must exceed what it is elsewhere
_COMMON = 0.2  # share of a cluster's images that must have it


class Name(TypedDict):
    """A suggestion for a cluster.

    ``score`` is a cosine for words with vectors, in [-1, 1], and otherwise the share of the
    cluster's images that have the word less that of the others, in [0, 1]. ``margin`` is how much
    more it is than that of the next word, None where there is none.
    """

    word: str
    score: float
    margin: float | None


def cluster_means(
    features: np.ndarray, labels: np.ndarray, n_clusters: int, columns: slice = slice(None)
) -> np.ndarray:
    """Mean unit vector (k, f) of each cluster's images, NaN for an empty one.

    Parameters
    ----------
    features
        (n, f), of any length; or (n, v, f) or (n, v, t, f), of which view 0 and token 0 are taken.
    labels
        (n,) cluster numbers in 0..n_clusters-1.
    n_clusters
        k.
    columns
        Which of the f to take.
    """
    total = np.zeros((n_clusters, len(range(features.shape[-1])[columns])))
    for start in range(0, len(labels), _CHUNK):
        part = labels[start : start + _CHUNK]
        of = csr_array((np.ones(len(part)), (part, np.arange(len(part)))), (n_clusters, len(part)))
        clean: Any = (slice(start, start + _CHUNK), *[0] * (features.ndim - 2))
        total += of @ _unit(features[clean][:, columns])
        let_go(features)
    sizes = np.bincount(labels, minlength=n_clusters)[:, None]
    return np.where(sizes > 0, total / np.maximum(sizes, 1), np.nan).astype(np.float32)


def nearest_words(
    means: np.ndarray, words: Sequence[str], vectors: np.ndarray, n_names: int = 3
) -> list[list[Name]]:
    """Words nearest to each cluster and far from the others.

    The score of a word is the cosine between what sets the cluster apart from the mean of all
    clusters and what sets the word apart from the mean of all words. What images have in common,
    and that texts lie elsewhere than images in CLIP's space, so falls out.

    Parameters
    ----------
    means
        (k, f) of :func:`cluster_means`.
    words
        (w,), two or more.
    vectors
        (w, f) of the words, in the space of the means; a memory map will do.
    n_names
        How many to give of each cluster.

    Returns
    -------
    list of list of Name
        At most n_names for each cluster, best first; none for an empty one.
    """
    full = np.isfinite(means).all(1)
    apart = _unit(means[full] - (means[full].mean(0) if full.sum() > 1 else 0))  # (c, f)
    total = sum(_unit(part).sum(0, dtype=np.float64) for part in _parts(vectors))
    centre = (total / len(words)).astype(np.float32)  # (f,)
    best = np.empty((len(apart), 0), np.float32)
    places = np.empty((len(apart), 0), np.int64)
    start = 0
    for part in _parts(vectors):
        scores = apart @ _unit(_unit(part) - centre).T  # (c, b)
        best = np.concatenate([best, scores], axis=1)
        here = np.broadcast_to(np.arange(start, start + len(part)), scores.shape)
        places = np.concatenate([places, here], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, : n_names + 1]
        best, places = np.take_along_axis(best, order, 1), np.take_along_axis(places, order, 1)
        start += len(part)
    names: list[list[Name]] = [[] for _ in means]
    for row, cluster in enumerate(np.flatnonzero(full)):
        found = [(words[place], float(s)) for place, s in zip(places[row], best[row], strict=True)]
        names[cluster] = _with_margins(found, n_names)
    return names


def frequent_words(
    paths: Sequence[str],
    labels: np.ndarray,
    n_clusters: int,
    dates: Sequence[str | None] | None = None,
    n_names: int = 3,
) -> list[list[Name]]:
    """Words of file and folder names, and dates, that set each cluster apart.

    A word counts where a fifth of the cluster's images have it and the other images have it less
    often, by three standard deviations of the difference of two shares; and where no other cluster
    has it more than twice as often.

    Parameters
    ----------
    paths
        (n,) relative POSIX paths.
    labels
        (n,) cluster numbers in 0..n_clusters-1.
    n_clusters, n_names
        As above.
    dates
        (n,) days on which the pictures were taken, as 2019-07-14, None where it is not known.

    Returns
    -------
    list of list of Name
        At most n_names for each cluster, best first; often none.
    """
    words_of = [
        {*_words(path), *_periods(dates[row] if dates else None)} for row, path in enumerate(paths)
    ]
    sizes = np.bincount(labels, minlength=n_clusters)
    least = _COMMON * sizes[sizes > 0].min(initial=len(labels))
    frequency = Counter(word for words in words_of for word in words)
    words = sorted(word for word, count in frequency.items() if count >= least)
    place = {word: place for place, word in enumerate(words)}
    table = np.zeros((len(words), n_clusters), np.int64)
    for row, found in enumerate(words_of):
        for word in found & place.keys():
            table[place[word], labels[row]] += 1
    return [
        _with_margins(_telling(words, table, sizes, cluster)[: n_names + 1], n_names)
        for cluster in range(n_clusters)
    ]


def _telling(
    words: Sequence[str], table: np.ndarray, sizes: np.ndarray, cluster: int
) -> list[tuple[str, float]]:
    """Words that a cluster has more often than the other images, and by how much its share is more.

    ``table`` (w, k) counts the images of each cluster that have a word.
    """
    size, rest = int(sizes[cluster]), int(sizes.sum() - sizes[cluster])
    if not size or not rest:
        return []
    total = table.sum(1)  # (w,)
    inside, outside = table[:, cluster] / size, (total - table[:, cluster]) / rest
    shared = total / (size + rest)
    spread = np.sqrt(shared * (1 - shared) * (1 / size + 1 / rest))
    more = inside - outside
    most = (table / np.maximum(sizes, 1)).max(1)  # of a cluster's images, in any cluster
    tells = (inside >= _COMMON) & (inside >= most / 2) & (more > _SURE * spread)
    # Of equals words before numbers, and the longer: a day says more than its year.
    order = sorted(
        np.flatnonzero(tells).tolist(),
        key=lambda w: (-round(more[w], 3), words[w].isdigit(), -len(words[w]), words[w]),
    )
    return [(words[w], float(more[w])) for w in order]


def _words(path: str) -> set[str]:
    """Words of a path, in small letters; of its last part without the suffix."""
    folder, _, name = path.rpartition("/")
    return {*_words_of(folder), *_words_of.__wrapped__(name.rpartition(".")[0] or name)}


@lru_cache(maxsize=4096)  # a folder is that of many files
def _words_of(text: str) -> frozenset[str]:
    found = {word.lower() for word in _WORDS.findall(_TURN.sub(" ", text))}
    # Numbers of pictures say nothing, a year may; a Chinese character is a word.
    said = {word for word in found if _YEAR.fullmatch(word) or not _SAYS_NOTHING.fullmatch(word)}
    return frozenset(said - ENGLISH_STOP_WORDS)


def _periods(date: str | None) -> list[str]:
    """The year, the month and the day of a date."""
    return [] if date is None else [date[:4], date[:7], date[:10]]


def _with_margins(found: Sequence[tuple[str, float]], n_names: int) -> list[Name]:
    scores = [score for _, score in found]
    margins: list[float | None] = [a - b for a, b in itertools.pairwise(scores)]
    margins += [None] * (len(found) - len(margins))
    return [
        {"word": word, "score": round(score, 4), "margin": None if m is None else round(m, 4)}
        for (word, score), m in zip(found[:n_names], margins)
    ]


def _parts(vectors: np.ndarray) -> list[np.ndarray]:
    return [vectors[start : start + _CHUNK] for start in range(0, len(vectors), _CHUNK)]


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32; a row of zeros stays."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
