"""Whatever the user points at becomes features.

In: a folder, list, tar or array of images; a feature store or a run; ready-made features.
Out: features (n, v, t, d) with the keys (n,) of their images and how they were made.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfavbs import runs
from mfavbs.errors import EncoderError, SourceError
from mfavbs.features import FeatureStore, is_store
from mfavbs.files import output_name, user_path
from mfavbs.images import (
    IMAGE_MEMORY,
    Framing,
    Images,
    folder_labels,
    is_archive,
    is_of_images,
    is_of_paths,
    open_images,
)
from mfavbs.urls import is_url

if TYPE_CHECKING:  # what imports torch is imported when images are encoded
    from mfavbs.encoders import CombinedEncoder, Encoder
    from mfavbs.features import Engine, Foretell

Source = str | Path | Sequence[str | Path] | np.ndarray | Images
# Which views were drawn beside the clean one, and whether in float32 or bfloat16: features of the
# same image stay near enough to mean the same. How a range was found and which images are too large
# is nothing of theirs.
_MAY_DIFFER = (
    *("views_version", "n_views", "augment", "seed"),
    *("precision", "range_rule", "image_memory"),
)


@dataclass(frozen=True)
class Features:
    """What is clustered: features (n, v, t, d) and, as far as they are known, their images.

    ``looks``: (n,) of the type :data:`mfavbs.images.LOOK`.
    """

    array: np.ndarray
    keys: list[str]
    folders: list[str] | None
    failures: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    notes: list[tuple[str, str]]
    images: Images | None
    source: dict[str, str]
    encoder: dict[str, Any]
    hashes: list[str] | None = None
    state: str | None = None
    looks: np.ndarray | None = None


class ImageSource:
    """Images, which are encoded into a feature store first."""

    store = None

    def __init__(self, images: Images) -> None:
        self.images = images
        self.keys = images.keys

    @property
    def name(self) -> str:
        """A name for its output, fit for a file name."""
        return output_name(self.images.location) if self.images.location else self.images.kind

    @property
    def identity(self) -> str:
        """Which source it is, in words: what an interrupted run is recognised by."""
        images = self.images
        if images.kind == "list" and not images.location:
            digest = hashlib.blake2b("\0".join(self.keys).encode(), digest_size=8)
            return f"list of {len(images)} paths ({digest.hexdigest()})"
        return f"{images.kind} {images.location or len(images)}"

    @property
    def folders(self) -> list[str] | None:
        """Folder of every key, or None where all are in one; a table's own labels."""
        return list(self.images.labels) if self.images.labels else folder_labels(self.keys)

    def load_encoder(
        self, parameters: dict[str, Any], fitted: dict[str, Any] | None = None
    ) -> "Encoder | CombinedEncoder":
        """Build what encodes the images, with weights that may have to be downloaded first.

        ``fitted`` is how the features of an earlier run were made, which these have to equal.
        """
        return load_same_encoder(parameters, fitted)

    def features(
        self,
        store: Path,
        encoder: "Encoder | CombinedEncoder | None",
        parameters: dict[str, Any],
        *,
        as_begun: bool = False,
        cache: str | Path | None = None,
        n_workers: int | None = None,
        foretell: "Foretell | None" = None,
        verbose: bool = True,
        device: str = "auto",
        engine: "Engine | None" = None,
    ) -> Features:
        """Encode the images into the folder ``store``, or go on with what it holds.

        ``as_begun`` takes a finished store as it is: a training that was interrupted goes on with
        the images that it began with.
        """
        from mfavbs.features import embed, encoded_here

        assert encoder is not None, "what load_encoder has made"
        images = self.images
        if as_begun and (store / "store.json").exists():
            begun = FeatureStore.open(store)
            diff = begun.diff(images)
            if diff:
                warnings.warn(
                    f"The source has changed since this run was begun ({diff}): it goes on with "
                    "the images that it began with. Bring it up to date when it is finished.",
                    stacklevel=3,
                )
            return _features_of_store(begun, images)
        made = embed(
            images,
            store,
            encoder,
            n_views=parameters["n_views"],
            augment=parameters.get("augment", "default"),
            seed=parameters["seed"],
            value_range=parameters.get("value_range", "type"),
            image_memory=parameters.get("image_memory", IMAGE_MEMORY),
            cache=cache,
            device=device,
            n_workers=n_workers,
            foretell=foretell,
            engine=engine or encoded_here,
            verbose=verbose,
        )
        return _features_of_store(made, images)

    def changes(self, store: Path, state: str | None) -> str:
        """What has changed since the run of this ``state`` was made, or nothing."""
        made = FeatureStore.open(store)
        if made.state is None:  # schema 1 says only which images there were
            return "" if made.keys == self.keys else "other images"
        diff = made.diff(self.images)
        return str(diff) if diff else "" if made.state == state else "it is encoded already"


class StoreSource:
    """A finished feature store."""

    images = None

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.keys = store.keys
        self.folders = store.labels
        self.name = output_name(store.location)
        place = store.location if is_url(store.location) else store.path.resolve()
        self.identity = f"features {place}"

    def load_encoder(
        self, parameters: dict[str, Any], fitted: dict[str, Any] | None = None
    ) -> None:
        """None, where these features are of the encoder that ``fitted`` names."""
        check_same_encoder(fitted, _made_by(self.store))

    def features(
        self,
        store: Path,
        encoder: "Encoder | CombinedEncoder | None",
        parameters: dict[str, Any],
        **_: Any,
    ) -> Features:
        """What the store holds; nothing is written."""
        return _features_of_store(self.store, None)

    def changes(self, store: Path, state: str | None) -> str:
        """What has changed since the run of this ``state`` was made, or nothing."""
        return "" if self.store.state == state else "the store holds other images now"


class ArraySource:
    """Features made elsewhere: an array (n, d), (n, v, d) or (n, v, t, d), or a .npy of one."""

    images = None
    store = None
    folders = None

    def __init__(self, array: np.ndarray, path: Path | None = None) -> None:
        self._array = array
        self._path = path
        width = len(str(len(array) - 1))
        self.keys = [f"{row:0{width}d}" for row in range(len(array))]
        self.name = output_name(path) if path else "array"

    @property
    def identity(self) -> str:
        """Which array it is, in words: what an interrupted run is recognised by."""
        if self._path is None:
            digest = hashlib.blake2b(np.ascontiguousarray(self._array).data, digest_size=8)
            return f"array {self._array.shape} ({digest.hexdigest()})"
        found = self._path.stat()
        return f"features {self._path.resolve()} ({found.st_size} bytes, {found.st_mtime})"

    def load_encoder(
        self, parameters: dict[str, Any], fitted: dict[str, Any] | None = None
    ) -> None:
        """None, where ``fitted`` is of features made elsewhere, too."""
        check_same_encoder(fitted, {"name": "features"})

    def features(
        self,
        store: Path,
        encoder: "Encoder | CombinedEncoder | None",
        parameters: dict[str, Any],
        **_: Any,
    ) -> Features:
        """The array itself; nothing is written."""
        made_by = {"name": "features"}
        location = "" if self._path is None else str(self._path.resolve())
        source = {"kind": "features", "location": location}
        return Features(self._array, self.keys, None, [], [], [], None, source, made_by)

    def changes(self, store: Path, state: str | None) -> str:
        """Nothing: an array that has changed is another source."""
        return ""


OpenedSource = ImageSource | StoreSource | ArraySource


def open_source(source: Source, exclude: Sequence[str] = ()) -> OpenedSource:
    """Open images, a finished feature store, or features as an array or the path of a .npy file.

    ``exclude`` is for images in files, see :func:`mfavbs.images.open_images`.
    """
    opened = _open(source, exclude)
    if exclude and (opened.images is None or isinstance(source, Images)):
        raise SourceError(
            f"exclude={list(exclude)} leaves out files while images are searched for, and these "
            "are opened or encoded already. Give it to open_images or `mfavbs embed`."
        )
    return opened


def _open(source: Source, exclude: Sequence[str]) -> OpenedSource:
    if isinstance(source, Images):
        return ImageSource(source)
    if isinstance(source, str) and is_url(source):
        if not is_archive(source) and is_store(source):
            return StoreSource(FeatureStore.open(source))
    elif isinstance(source, str | Path):
        path = user_path(source)
        for store in (path, path / runs.FEATURES):
            if is_store(store):  # a store, or the one inside a run folder
                return StoreSource(FeatureStore.open(store))
        if path.suffix == ".npy" and path.is_file():
            return _open_npy(path)
    elif isinstance(source, np.ndarray) and not is_of_paths(source):
        return _of_array(source)
    return ImageSource(open_images(source, exclude=exclude))


def _open_npy(path: Path) -> ImageSource | ArraySource:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"{path} cannot be read as an array: {error}") from error
    try:
        return _of_array(array, path)
    except SourceError as error:
        raise SourceError(f"{path}: {error}") from error


def _of_array(array: np.ndarray, path: Path | None = None) -> ImageSource | ArraySource:
    """Images or features, by :func:`mfavbs.images.is_of_images` whatever way they come in."""
    if is_of_images(array):
        return ImageSource(open_images(array))
    return ArraySource(array, path)


def _features_of_store(store: FeatureStore, images: Images | None) -> Features:
    return Features(
        store.features,
        store.keys,
        store.labels,
        store.failures,
        store.skipped if images is None else images.skipped,
        store.notes,
        images,
        store.parameters["source"],
        _made_by(store),
        store.hashes,
        store.state,
        store.looks,
    )


def _made_by(store: FeatureStore) -> dict[str, Any]:
    made_by = store.recipe
    return {"name": made_by.pop("encoder"), **made_by}


def load_same_encoder(
    parameters: dict[str, Any], fitted: dict[str, Any] | None = None
) -> "Encoder | CombinedEncoder":
    """The encoder that was asked for, which has to be that of ``fitted``."""
    from mfavbs.encoders import load_encoder

    encoder = load_encoder(
        parameters["encoder"],
        weights=parameters["weights"],
        image_size=parameters["image_size"],
        grid=parameters["grid"],
        fit=parameters.get("fit"),
    )
    if fitted is not None and fitted.get("views_version", 2) < 3:
        encoder.framing = Framing()  # version 2 asked no weights how they were trained
    now = {"name": encoder.name, "range": parameters.get("value_range", "type")}
    check_same_encoder(fitted, encoder.recipe | now)
    return encoder


def check_same_encoder(fitted: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Refuse to predict from features of another encoder than the run's."""
    for name, value in (fitted or {}).items():
        if name not in _MAY_DIFFER and now.get(name) != value:
            raise EncoderError(
                f"The run was made with {name}={value!r}, these features with "
                f"{name}={now.get(name)!r}; a cluster means nothing across encoders. "
                "Give the run's own weights by weights=, or images instead of features."
            )
