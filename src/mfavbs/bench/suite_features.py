"""The features of a suite: made once for each set and encoder, and kept.

In: a set, an encoder. Out: a feature store, which of its rows count, and the label of each.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfavbs.bench.suite_file import DIGITS, Suite, SuiteEncoder, SuiteSet
from mfavbs.datasets import DATASETS, open_dataset
from mfavbs.encoders import load_encoder
from mfavbs.errors import SourceError
from mfavbs.features import FeatureStore, embed, is_store
from mfavbs.images import Images, folder_labels, open_images, views_of

_SEED = 0  # of which images are left where there are more than the limit


class Cell(NamedTuple):
    """A set through an encoder: what every method of the suite is given."""

    store: Path
    rows: list[int]  # of the store
    labels: list[str]  # of these rows
    k: int
    features: str  # digest of all that decides the features and the labels


class Some(Images):
    """Some of the images of a source."""

    def __init__(self, images: Images, rows: list[int]) -> None:
        super().__init__(images.location, (images.keys[row] for row in rows), images.skipped)
        self.kind = images.kind
        self._images, self._rows = images, rows

    def stat(self, row: int) -> tuple[int, float]:
        return self._images.stat(self._rows[row])

    def read(self, row: int) -> bytes | np.ndarray:
        return self._images.read(self._rows[row])


def some_of(n: int, limit: int | None) -> list[int]:
    """At most ``limit`` of n rows, drawn from all of them, in order; the same ones each time."""
    if limit is None or n <= limit:
        return list(range(n))
    return sorted(np.random.default_rng(_SEED).permutation(n)[:limit].tolist())


def make_cell(
    suite: Suite, wanted: SuiteSet, encoder: SuiteEncoder, folder: Path, **options: Any
) -> Cell:
    """Encode a set into a store in ``folder``, unless it is there; a set that is a store is read.

    ``options`` are those of :func:`mfavbs.embed`: ``n_workers``, ``device``, ``verbose``.
    """
    if is_store(wanted.source):
        store = FeatureStore.open(wanted.source)
        labels = store.labels
        if labels is None:
            raise SourceError(f"{wanted.source} has no labels to score against")
        rows = some_of(len(labels), suite.limit)
    else:
        images, truth, size = _images(wanted, suite.data)
        images = Some(images, some_of(len(images), suite.limit))
        loaded = load_encoder(
            encoder.name, weights=encoder.weights, image_size=wanted.image_size or size
        )
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in encoder.label)
        place = folder / f"{wanted.name}-{name}"
        n_views = views_of(wanted.augment, suite.n_views)
        store = embed(images, place, loaded, n_views=n_views, augment=wanted.augment, **options)
        labels = [truth[key] for key in store.keys]
        rows = list(range(len(labels)))
    labels = [labels[row] for row in rows]
    k = len(set(labels)) if wanted.k is None else wanted.k
    if not 2 <= k <= len(labels):
        raise SourceError(f"{wanted.name}: k={k} should be in 2..{len(labels)}, the images")
    return Cell(store.path, rows, labels, k, _digest(store, rows, labels))


def _images(wanted: SuiteSet, data: Path) -> tuple[Images, dict[str, str], int | None]:
    """Images, the label of every key, and the size that the set asks for."""
    if not Path(wanted.source).exists() and wanted.source in DATASETS:
        found = open_dataset(wanted.source, data)
        return (
            found.images,
            dict(zip(found.images.keys, found.labels, strict=True)),
            found.image_size,
        )
    if not Path(wanted.source).exists() and wanted.source == DIGITS:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = open_images((digits.images * (255 / 16)).round().astype("uint8"))
        labels: list[str] | None = digits.target.astype(str).tolist()
        return images, dict(zip(images.keys, labels or [], strict=True)), 8
    images = open_images(wanted.source)
    labels = folder_labels(images.keys)
    if labels is None:
        raise SourceError(
            f"{wanted.source} has no labels to score against; expected images in a sub-folder for "
            "each label, or a feature store of such images."
        )
    return images, dict(zip(images.keys, labels, strict=True)), None


def _digest(store: FeatureStore, rows: list[int], labels: list[str]) -> str:
    """16 hex digits of the recipe, the contents and the labels, wherever the store lies."""
    contents = store.hashes
    parts = [[contents[row], label] for row, label in zip(rows, labels, strict=True)]
    text = json.dumps([store.recipe, parts], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
