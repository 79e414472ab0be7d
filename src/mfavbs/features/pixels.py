"""The pixels beside a feature store, for training that looks at them.

In: a store, its images and an edge. Out: every image as one small square (n, S, S, 3) uint8, and
what each stored view shows of it, memory-mapped from a folder.

==========================  ====================================================================
``pixels.npy``              (n, S, S, 3) uint8, whole images squashed, rows as in the store
``crops.npy``               (n, v, m) float32, from :func:`mfavbs.images.replay_crops`
``pixels.json``             which store's state, S and edge of the views; written last
==========================  ====================================================================
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from mfavbs.errors import ImageError, StoreError
from mfavbs.features.store import FeatureStore
from mfavbs.files import ADVICE, holds_only, read_json, user_path, write_json, write_whole
from mfavbs.images import (
    IMAGE_MEMORY,
    VIEWS_VERSION,
    Framing,
    Images,
    Views,
    picture_of,
    read_content,
    recorded_range,
    replay_crops,
)
from mfavbs.locking import alone_in
from mfavbs.progress import Progress

_NAMES = ("pixels.npy", "crops.npy", "pixels.json")
_AT_ONCE = 32  # images read before they are decoded
_THREADS = 4  # that decode


class StoredPixels(NamedTuple):
    """Images (n, S, S, 3) uint8 and crops (n, v, m) float32, memory-mapped."""

    pixels: np.ndarray
    crops: np.ndarray


def store_pixels(
    store: FeatureStore,
    images: Images,
    out: str | Path,
    *,
    edge: int,
    image_size: int,
    views: Views | None = None,
    verbose: bool = True,
) -> StoredPixels:
    """Read every image of a feature store once more, and keep it as a small square.

    Parameters
    ----------
    store
        From :func:`mfavbs.embed`.
    images
        Its source, from :func:`mfavbs.open_images`.
    out
        Folder; where it holds these pixels already they are taken as they are.
    edge
        S, of the squares that whole images are squashed to, in pixels; 3 S² bytes an image. Twice
        ``image_size`` leaves most crops their pixels.
    image_size
        Edge of the views that will be drawn, see :class:`mfavbs.model.Stem`.
    views
        Others than the store's, where its features are not told to what looks at the pixels.
    verbose
        Show progress on stderr.

    Raises
    ------
    StoreError
        The folder holds something else or cannot be written, the store was made by an earlier
        version, or an image is gone or was changed since.
    """
    out = user_path(out)
    views = _views_of(store) if views is None else views
    about: dict[str, Any] = {
        "schema": 1,
        "state": store.state,
        "edge": edge,
        "image_size": image_size,
    }
    about |= {"recipe": views.recipe}
    _check_free(out)
    with alone_in(out, StoreError):
        made = read_json(out / _NAMES[2])
        if made is None:
            try:
                sizes = _write_pixels(out, store, images, views, edge, verbose)
                crops = replay_crops(views, store.hashes, edge, image_size, sizes)
                write_whole(out / _NAMES[1], lambda file: np.save(file, crops))
                write_json(out / _NAMES[2], about)
            except OSError as error:
                raise StoreError(
                    f"{out} cannot be written: {error.strerror or error}; make room and run again"
                ) from error
        elif made != about:
            name = next(name for name in about if made.get(name) != about[name])
            raise StoreError(f"{out} holds pixels of another {name}; {ADVICE}")
        pixels, crops = (np.load(out / name, mmap_mode="r") for name in _NAMES[:2])
    return StoredPixels(pixels, crops)


def _check_free(out: Path) -> None:
    if not (out / _NAMES[2]).exists() and not holds_only(out, _NAMES):
        raise StoreError(f"{out} exists and does not hold a store's pixels; {ADVICE}")


def _views_of(store: FeatureStore) -> Views:
    """How the store's views were drawn."""
    made_by = store.parameters
    if store.state is None or made_by.get("views_version") != VIEWS_VERSION:
        raise StoreError(
            f"{store.path} is of an earlier version of mfavbs, which drew other views; make it "
            "again"
        )
    return Views(
        made_by["image_size"],
        made_by["n_views"],
        made_by["seed"],
        augment=made_by["augment"],
        augmentation=made_by["augmentation"],
        framing=framing_of(store),
    )


def framing_of(store: FeatureStore) -> Framing:
    """How the store's images became squares."""
    fit, crop_pct, interpolation, fill = (store.parameters[name] for name in Framing._fields)
    return Framing(fit, crop_pct, interpolation, tuple(fill))


def _write_pixels(
    out: Path, store: FeatureStore, images: Images, views: Views, edge: int, verbose: bool
) -> list[tuple[int, int]]:
    """Write ``pixels.npy``; width and height of every image as its views were drawn of it."""
    os.makedirs(out, exist_ok=True)
    sizes: list[tuple[int, int]] = []

    def write(file: IO[bytes]) -> None:
        # Not through a memory map: on a full disk that ends the process with a bus error.
        shape = (len(store.keys), edge, edge, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        with Progress("pixels", len(store.keys), "images", show=verbose) as progress:
            for size, square in _squares(store, images, views, edge):
                sizes.append(size)
                file.write(square.data)
                progress.advance()

    write_whole(out / _NAMES[0], write)
    return sizes


def _squares(
    store: FeatureStore, images: Images, views: Views, edge: int
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    row_of = {key: row for row, key in enumerate(images.keys)}
    value_range = recorded_range(store.parameters)
    memory = store.parameters.get("image_memory", IMAGE_MEMORY)

    def read(key: str) -> bytes | np.ndarray | ImageError:
        try:
            if key not in row_of:
                raise ImageError("it is not there any more")
            return read_content(images, row_of[key], memory)
        except ImageError as error:
            return error

    def square(
        key: str, content: str, read: bytes | np.ndarray | ImageError
    ) -> tuple[tuple[int, int], np.ndarray]:
        try:
            if isinstance(read, ImageError):
                raise read
            # As the views were drawn: a JPEG may have been decoded at a part of its size.
            picture = picture_of(
                read, key, views.enough, value_range=value_range, image_memory=memory
            )
            if picture.hash != content:
                raise ImageError("it has changed")
        except ImageError as error:
            raise StoreError(
                f"{key} is not what {store.path} was made of: {error}; embed the images again"
            ) from error
        small = picture.image.resize((edge, edge), Image.Resampling.BICUBIC)
        return picture.image.size, np.array(small)

    keys, hashes = store.keys, store.hashes
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(keys), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            # In order, and in this thread: a tar has one place at which it is read.
            contents = [read(key) for key in keys[part]]
            yield from pool.map(square, keys[part], hashes[part], contents)
