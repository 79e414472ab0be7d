"""Copies among the images of a source, and one of each kept for training.

In: features of n images. Out: a group (n,) for each image; which rows to train on.
"""

from collections.abc import Callable

import numpy as np

from mfavbs.sources import Features

_EDGE = 24  # pixels of the shorter edge: smaller pictures are alike without being copies
_SAMPLE = 2_000  # images whose views tell what views of one image have in common


def group_images(
    features: Features, embeddings: np.ndarray, tokens_of: Callable[[np.ndarray], np.ndarray]
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
    # A picture without contrast matches none.
    large = np.minimum(looks["width"], looks["height"]) >= _EDGE
    return group_copies(contents, embeddings, looks["grey"] * large[:, None, None], model)
