"""Features as a caller hands them over, checked before anything is computed of them.

In: features of images, (n, d), (n, v, d) or (n, v, t, d).
Out: the same as (n, v, t, d), all finite; or an error that names the rows or the shape.
"""

import os
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from mfavbs.errors import SourceError
from mfavbs.features import SegmentedFeatures
from mfavbs.images import Images, is_of_images, is_of_paths
from mfavbs.memory import let_go

_FINITE_CHUNK = 4096
_FEATURES_ONLY = (
    "MFAVBsClustering takes features. For images use mfavbs.cluster_images, or encode them with "
    "mfavbs.embed and give the store's features"
)


def check_features(estimator: BaseEstimator, X, *, reset: bool) -> np.ndarray:
    """(n, v, t, d), finite; a memory-mapped array stays one, a tensor of any kind is taken."""
    _check_no_names(X)
    X = _as_array(X)
    array = X
    if not isinstance(X, SegmentedFeatures):  # which is read a part at a time
        array = check_array(
            X,
            dtype=[np.float32, np.float64, np.float16],
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_features=1,
            estimator=estimator,
            input_name="X",
        )
    if array.ndim > 4:
        raise SourceError(f"X has shape {array.shape}; expected (n, d), (n, v, d) or (n, v, t, d).")
    if min(array.shape) == 0:
        raise SourceError(f"X has shape {array.shape}: no axis may be empty.")
    _check_no_pixels(X if isinstance(X, np.ndarray) and X.dtype != object else array)
    if array.ndim == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        array = array[:, None, None]
    else:
        array = array if array.ndim == 4 else array[:, :, None]
        validate_data(estimator, array[:, 0, 0], reset=reset, skip_check_array=True)
    _check_finite(array)
    return array


def _check_no_names(X: Any) -> None:
    first = X[0] if isinstance(X, list | tuple) and X else X
    paths = isinstance(X, np.ndarray) and is_of_paths(X)
    if paths or isinstance(first, str | os.PathLike | Images):
        raise SourceError(f"X names images; {_FEATURES_ONLY}")


def _check_no_pixels(array: np.ndarray) -> None:
    try:
        images = is_of_images(array)
    except SourceError as error:
        raise SourceError(f"X: {error}; {_FEATURES_ONLY}") from error
    if images:
        raise SourceError(f"X is {array.dtype} of shape {array.shape}, images; {_FEATURES_ONLY}")


def _as_array(X: Any) -> Any:
    if not isinstance(X, Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()  # numpy has no bfloat16


def _check_finite(features: np.ndarray) -> None:
    bad: list[int] = []
    for start in range(0, len(features), _FINITE_CHUNK):
        part = features[start : start + _FINITE_CHUNK].reshape(-1, features[0].size)
        with np.errstate(over="ignore"):
            part = part.astype(np.float32, copy=False)  # what the network computes in
        let_go(features)
        bad += (start + np.flatnonzero(~np.isfinite(part).all(axis=1))).tolist()
    if bad:
        rows = ", ".join(map(str, bad[:10])) + (", …" if len(bad) > 10 else "")
        raise SourceError(
            "Input X contains NaN, infinity or values too large for float32 in "
            f"{len(bad)} of {len(features)} rows: {rows}. "
            "Remove those rows or embed their images again."
        )
