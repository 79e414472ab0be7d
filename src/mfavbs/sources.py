"""Whatever the user points at becomes features.

In: a folder, list, tar or array of images; a feature store or a run; ready-made features.
Out: features (n, v, t, d) with the keys (n,) of their images and how they were made.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs import runs
from mfavbs.encoders import load_encoder
from mfavbs.errors import EncoderError, SourceError
from mfavbs.features import FeatureStore, embed, is_store
from mfavbs.images import Images, folder_labels, open_images

Source = str | Path | Sequence[str | Path] | np.ndarray | Images
_ONE_FOLDER = (
    "Labels were to come from sub-folders, but all images lie in one. "
    "Drop --labels-from-folders, or sort the labelled images into a folder for each label."
)
Opened = Images | FeatureStore | np.ndarray | Path


@dataclass(frozen=True)
class Features:
    """What is clustered: features (n, v, t, d) and, as far as they are known, their images."""

    array: np.ndarray
    keys: list[str]
    folders: list[str] | None
    failures: list[tuple[str, str]]
    images: Images | None
    source: dict[str, str]
    encoder: dict[str, Any]


def open_source(source: Source) -> Opened:
    """Images; a finished feature store; or features, as an array or the path of a .npy file."""
    if isinstance(source, Images):
        return source
    if isinstance(source, str | Path):
        path = Path(source)
        for store in (path, path / runs.FEATURES):
            if is_store(store):  # a store, or the one inside a run folder
                return FeatureStore.open(store)
        if path.suffix == ".npy" and path.is_file():
            return _open_npy(path)
    elif isinstance(source, np.ndarray) and source.ndim == 2:
        return source
    return open_images(source)


def _open_npy(path: Path) -> Images | Path:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"{path} cannot be read as an array: {error}") from error
    if array.dtype == np.uint8:
        return open_images(np.asarray(array))
    if array.ndim == 4 and array.shape[-1] in (1, 3, 4):
        raise SourceError(
            f"{path} holds {array.dtype} of shape {array.shape}, which looks like images "
            "(n, h, w, channels) rather than features (n, v, t, d): save images as uint8."
        )
    if not np.issubdtype(array.dtype, np.floating) or array.ndim not in (2, 3, 4):
        raise SourceError(
            f"{path} holds {array.dtype} of shape {array.shape}; expected floating-point features "
            "(n, d), (n, v, d) or (n, v, t, d), or uint8 images (n, h, w[, 3])."
        )
    return path


def name_of(opened: Opened) -> str:
    if isinstance(opened, FeatureStore):
        opened = opened.path
    location = str(opened) if isinstance(opened, Path) else getattr(opened, "location", "")
    return Path(location).name.split(".")[0] or "array"


def name_source(opened: Opened) -> str:
    """Which source it is, in words: what an interrupted run is recognised by."""
    if isinstance(opened, FeatureStore):
        return f"features {opened.path.resolve()}"
    if isinstance(opened, Path):
        found = opened.stat()
        return f"features {opened.resolve()} ({found.st_size} bytes, {found.st_mtime})"
    if isinstance(opened, Images):
        return f"{opened.kind} {opened.location or len(opened)}"
    return f"array {opened.shape}"


def check_early(
    opened: Opened, n_clusters: int, labels: Sequence[str] | None, from_folders: bool
) -> None:
    """Refuse before hours of encoding what can be refused before it."""
    if not isinstance(opened, Images):
        return
    if len(opened) < n_clusters:
        raise SourceError(
            f"n_samples={len(opened)} should be >= n_clusters={n_clusters}; "
            "lower n_clusters (-k) or add images."
        )
    if labels is not None and len(labels) != len(opened):
        raise SourceError(f"{len(labels)} labels for {len(opened)} images; expected one each.")
    if from_folders and labels is None and folder_labels(opened.keys) is None:
        raise SourceError(_ONE_FOLDER)


def make_features(
    opened: Opened,
    store: Path,
    parameters: dict[str, Any],
    *,
    n_workers: int | None,
    verbose: bool,
    device: str,
    fitted: dict[str, Any] | None = None,
) -> Features:
    """Features of whatever was opened; those of images are made in, or found in, ``store``."""
    if isinstance(opened, np.ndarray | Path):
        array = opened if isinstance(opened, np.ndarray) else np.load(opened, mmap_mode="r")
        location = "" if isinstance(opened, np.ndarray) else str(opened.resolve())
        keys = [f"{row:0{len(str(len(array) - 1))}d}" for row in range(len(array))]
        source = {"kind": "features", "location": location}
        check_same_encoder(fitted, {"name": "features"})
        return Features(array, keys, None, [], None, source, {"name": "features"})
    images = None
    if isinstance(opened, Images):
        images = opened
        if images.ignored:
            kinds = ", ".join(
                f"{n} {kind or 'without suffix'}" for kind, n in images.ignored.items()
            )
            warnings.warn(f"Passed over, not images by their names: {kinds}.", stacklevel=4)
        encoder = load_encoder(
            parameters["encoder"],
            weights=parameters["weights"],
            image_size=parameters["image_size"],
            grid=parameters["grid"],
        )
        made_now = {k: getattr(encoder, k) for k in ("weights_hash", "image_size", "grid", "name")}
        check_same_encoder(fitted, made_now)
        opened = embed(
            images,
            store,
            encoder,
            n_views=parameters["n_views"],
            seed=parameters["seed"],
            device=device,
            n_workers=n_workers,
            verbose=verbose,
        )
    keys_of_views = ("weights_hash", "image_size", "grid", "n_views", "seed")
    made_by = {k: opened.parameters[k] for k in keys_of_views}
    made_by["name"] = opened.parameters["encoder"]
    check_same_encoder(fitted, made_by)
    return Features(
        opened.features,
        opened.keys,
        opened.labels,
        opened.failures,
        images,
        opened.parameters["source"],
        made_by,
    )


def known_labels(
    features: Features,
    opened: Opened,
    labels: Sequence[str] | None,
    from_folders: bool,
) -> list[str] | None:
    """Known labels of the readable images, (n,), for scoring only."""
    if labels is not None:
        keys = opened.keys if isinstance(opened, Images) else features.keys
        if len(labels) != len(keys):
            raise SourceError(f"{len(labels)} labels for {len(keys)} images; expected one each.")
        by_key = dict(zip(keys, map(str, labels), strict=True))
        return [by_key[key] for key in features.keys]
    if not from_folders:
        return None
    if features.folders is None:
        raise SourceError(_ONE_FOLDER)
    return features.folders


def check_same_encoder(fitted: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Refuse to predict from features of another encoder than the run's."""
    for name, value in (fitted or {}).items():
        if name not in ("n_views", "seed") and now.get(name) != value:
            raise EncoderError(
                f"The run was made with {name}={value!r}, these features with "
                f"{name}={now.get(name)!r}; a cluster means nothing across encoders. "
                "Give the run's own weights by --weights, or images instead of features."
            )
