"""Copies among the images of a source, and one of each kept for training.

In: features of n images. Out: a group (n,) for each image; which rows to train on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfavbs.features import SegmentedFeatures
from mfavbs.memory import checked_memory, let_go
from mfavbs.sources import Features

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering, Room

_EDGE = 24  # pixels of the shorter edge: smaller pictures are alike without being copies
_DIM = 128  # directions in which copies are looked for before a model is trained
_CHUNK = 4_096
_SAMPLE = 2_000  # images whose views tell what views of one image have in common


def group_images(
    features: Features,
    embeddings: np.ndarray,
    tokens_of: Callable[[np.ndarray], np.ndarray],
    room: "Room | None" = None,
) -> np.ndarray:
    """Group the images that are copies of each other, see :func:`mfavbs.insight.group_copies`.

    Parameters
    ----------
    features
        Of n images. Without thumbnails, as where features were made elsewhere, and where pictures
        are smaller than 24 pixels, only images of equal content or equal features are copies.
    embeddings
        (n, d) of unit length.
    tokens_of
        Gives projected tokens (m, v, t, d) of some rows.
    room
        What may be held in memory; all of it by default.

    Returns
    -------
    ndarray
        (n,) int32, -1 where an image is in no group.
    """
    from mfavbs.insight import fit_one_or_two, group_copies
    from mfavbs.model import find_copies

    n, looks = len(embeddings), features.looks
    if features.hashes is None:
        contents = find_copies(features.array)[1]
    else:
        contents = np.unique(features.hashes, return_inverse=True)[1]
    if looks is None:
        return group_copies(contents, embeddings, None, None)
    rows = np.linspace(0, n - 1, min(n, _SAMPLE)).round().astype(np.int64)
    model = fit_one_or_two(tokens_of(rows)[:, :, 0])
    large = np.minimum(looks["width"], looks["height"]) >= _EDGE
    bounds = {} if room is None else {"room": room}
    group = group_copies(contents, embeddings, looks["grey"], model, large, **bounds)
    let_go(looks)
    return group


def fit_one_of_each(
    model: "MFAVBsClustering", features: Features, seed: int, checkpoint: Path | None = None
) -> int:
    """Train a model on one image of each group of copies, the first; the others have its answer.

    Parameters
    ----------
    model
        Not fitted yet; has labels and probabilities of all n images afterwards.
    features
        Of n images.
    seed
        Of the projection by which copies are looked for.
    checkpoint
        As in :meth:`mfavbs.MFAVBsClustering.fit`.

    Returns
    -------
    int
        How many images were not trained on.
    """
    from mfavbs.model import Room

    group = _groups_before_training(features, seed, Room(checked_memory(model.memory)))
    alone = group < 0
    group[alone] = group.max(initial=-1) + 1 + np.arange(alone.sum())
    _, rows, of = np.unique(group, return_index=True, return_inverse=True)
    order = np.argsort(rows)  # as they come in the source
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    rows, of = rows[order], place[of]
    kept = SegmentedFeatures([features.array], np.zeros(len(rows), np.int64), rows)
    model.fit(kept, checkpoint=checkpoint)
    model.labels_ = model.labels_[of]
    model.confidences_ = model.confidences_[of]
    model.probabilities_ = model.probabilities_[of]
    return len(of) - len(rows)


def _groups_before_training(features: Features, seed: int, room: "Room") -> np.ndarray:
    """Groups of copies by a projection of all images: what is trained on is not chosen yet."""
    import torch

    from mfavbs.model import TOKENS, fit_projection, make_array, mean_view, unit

    array = features.array if features.array.ndim == 4 else _as_views(features.array)
    mean, components = fit_projection(array, _DIM, torch.Generator().manual_seed(seed))

    def tokens_of(rows: np.ndarray) -> torch.Tensor:
        return (unit(array[rows]) - mean) @ components  # (m, v, t, d)

    embeddings = make_array((len(array), _DIM), TOKENS, room)
    for start in range(0, len(array), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(array)))
        embeddings[rows] = mean_view(tokens_of(rows)).numpy()
        let_go(embeddings)
        let_go(array)
    return group_images(features, embeddings, lambda rows: tokens_of(rows).numpy(), room)


def _as_views(array: np.ndarray) -> np.ndarray:
    """(n, d) or (n, v, d) as (n, v, t, d)."""
    return array[:, None, None] if array.ndim == 2 else array[:, :, None]
