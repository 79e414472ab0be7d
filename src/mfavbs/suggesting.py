"""Names that the clusters of a run may be called by.

In: features of n images, their clusters (n,), perhaps a vocabulary. Out: a few words for each
cluster, and what they are from.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfavbs.encoders import Vocabulary, has_text_side, read_vocabulary
from mfavbs.errors import EncoderError, SourceError
from mfavbs.images import Images, day_taken
from mfavbs.sources import Features

if TYPE_CHECKING:
    from mfavbs.insight import Name

OFF = "off"
_DATED = 2_000  # images whose dates are looked at
_PATHS = "file and folder names"


class Wish(NamedTuple):
    """What clusters are to be named by: a vocabulary, or None for what there is; and which weights
    the encoder was given, one file or several, as the run has them."""

    vocabulary: Vocabulary | None = None
    weights: Any = None
    wanted: bool = True


def wish(
    vocabulary: str | Path | None, vectors: str | Path | np.ndarray | None, weights: Any
) -> Wish:
    """Read what is asked for.

    Raises
    ------
    SourceError
        The vocabulary cannot be read or is none, or there are vectors without words.
    """
    if vocabulary is None or str(vocabulary) == OFF:
        if vectors is not None:
            raise SourceError(
                "vocabulary_vectors= has a row for each line of a vocabulary; give its words as "
                "vocabulary="
            )
        return Wish(None, weights, vocabulary is None)
    return Wish(read_vocabulary(vocabulary, vectors), weights)


def check_width(asked: Wish, features: Features) -> None:
    """Refuse vectors that are not in the space of the features.

    Raises
    ------
    SourceError
        They are not as wide.
    """
    vectors = asked.vocabulary.vectors if asked.vocabulary else None
    width = features.array.shape[-1]
    if vectors is not None and vectors.shape[1] != width:
        raise SourceError(
            f"The vectors of the vocabulary have {vectors.shape[1]:,} columns, the features of "
            f"{features.encoder.get('name')} {width:,}; both have to be of one space."
        )


def suggest_names(
    features: Features, labels: np.ndarray, n_clusters: int, asked: Wish, *, show: bool = False
) -> "tuple[list[list[Name]], dict[str, str]]":
    """Names of each cluster, best first, and what they are from.

    By vectors of words where they are given, by the text side of a CLIP encoder, else by the words
    of paths and the dates of pictures.

    Parameters
    ----------
    features
        What was clustered.
    labels
        (n,) cluster numbers.
    n_clusters
        k.
    asked
        From :func:`wish`.
    show
        Show progress on stderr.

    Returns
    -------
    names, about
        Of each cluster; and ``from``, and ``why`` where something else was used than was asked for.
    """
    if not asked.wanted:
        return [[] for _ in range(n_clusters)], {"from": "nothing", "why": "they are turned off"}
    vocabulary, why = asked.vocabulary, ""
    columns = slice(None)
    if vocabulary is None or vocabulary.vectors is None:
        try:
            vocabulary, columns = _encoded(features, asked, show)
        except EncoderError as error:
            vocabulary, why = None, str(error)
    if vocabulary is None or vocabulary.vectors is None:
        if asked.vocabulary:
            warnings.warn(
                f"{why}: clusters are named by {_PATHS} and dates. Give vocabulary_vectors= with "
                "the words' vectors in the encoder's space, or a CLIP encoder.",
                stacklevel=2,
            )
        names = _by_paths(features, labels, n_clusters)
        return names, {"from": _PATHS, "why": why}
    from mfavbs.insight import cluster_means, nearest_words  # scipy, for which errors need not wait

    means = cluster_means(features.array, labels, n_clusters, columns)
    names = nearest_words(means, vocabulary.words, vocabulary.vectors)
    return names, {"from": vocabulary.name}


def _encoded(features: Features, asked: Wish, show: bool) -> tuple[Vocabulary, slice]:
    """The vocabulary with vectors by the encoder's text side, and the columns of its features."""
    import platformdirs

    from mfavbs.devices import pick_device
    from mfavbs.encoders import encode_words, load_text_encoder

    made_by, columns, weights = _with_text_side(features.encoder, asked.weights)
    encoder = load_text_encoder(made_by["name"], weights)
    same_size = made_by.get("image_size") == encoder.image_size  # else the weights were resized
    if same_size and made_by.get("weights_hash") != encoder.image_hash:
        raise EncoderError(f"the features are not of these weights of {encoder.name}")
    vocabulary = asked.vocabulary or read_vocabulary("nouns")
    cache = platformdirs.user_cache_path("mfavbs", appauthor=False) / "words"
    encoder.to_device(pick_device("auto"))
    vectors = encode_words(encoder, vocabulary.words, cache, show=show)
    return vocabulary._replace(vectors=vectors), columns


def _with_text_side(
    made_by: Mapping[str, Any], weights: Any
) -> tuple[Mapping[str, Any], slice, Path | None]:
    """The first encoder with a text side: how it was made, its columns and its file of weights."""
    several: Sequence[Mapping[str, Any]] = made_by.get("encoders") or [made_by]
    widths = made_by.get("blocks") or [None]
    files = weights if isinstance(weights, list) else [weights]
    files = files if len(files) == len(several) else [None] * len(several)
    start = 0
    for one, width, file in zip(several, widths, files, strict=True):
        name = str(one.get("encoder") or one.get("name") or "")
        if has_text_side(name):
            columns = slice(None) if width is None else slice(start, start + width)
            return {**one, "name": name}, columns, Path(file) if file else None
        start += width or 0
    raise EncoderError(f"{made_by.get('name')} has no text side")


def _by_paths(features: Features, labels: np.ndarray, n_clusters: int) -> "list[list[Name]]":
    """Words of paths and days of EXIF, merged by their scores."""
    if features.source.get("kind") == "array" or features.encoder.get("name") == "features":
        return [[] for _ in range(n_clusters)]  # the keys are numbers
    from mfavbs.insight import frequent_words

    names = frequent_words(features.keys, labels, n_clusters)
    rows = np.linspace(0, len(labels) - 1, min(_DATED, len(labels))).round().astype(int)
    dates = _dates(features.images, [features.keys[row] for row in rows])
    if not any(dates):
        return names
    dated = frequent_words([""] * len(rows), labels[rows], n_clusters, dates)
    merged = [sorted([*a, *b], key=lambda name: -name["score"]) for a, b in zip(names, dated)]
    return [found[:3] for found in merged]


def _dates(images: Images | None, keys: Sequence[str]) -> list[str | None]:
    if images is None:
        return []
    row_of = {key: row for row, key in enumerate(images.keys)}
    return [day_taken(images, row_of[key]) if key in row_of else None for key in keys]
