"""In: the name of a public set and the folder that holds it. Out: its n images and labels (n,).

Which splits are joined and which classes count is in `protocols.py`. Files are read where they
lie; nothing is downloaded.
"""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfavbs.datasets.protocols import SETS, Protocol
from mfavbs.errors import SourceError
from mfavbs.files import user_path
from mfavbs.images import TAR_SUFFIXES, Images, open_images

__all__ = ["DATASETS", "DataSet", "open_dataset"]


class DataSet(NamedTuple):
    """An opened public set.

    Attributes
    ----------
    name
        One of `DATASETS`.
    images
        n candidates. Keys are paths relative to the folder, or to the tar with the split in front
        where there are several; the number in its split for images that are no files.
    labels
        (n,) known labels in the order of the images, for scoring only.
    n_clusters
        k, the number of distinct labels.
    image_size
        Edge in pixels that images are scaled to before they are encoded.
    """

    name: str
    images: Images
    labels: list[str]
    n_clusters: int
    image_size: int


_WORDNET_ID = re.compile(r"n\d{8}")
# By stem: the class in torchvision, and the folder that it reads.
_TORCHVISION = {
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
    "stl10": ("STL10", "stl10_binary"),
}
# By stem: the folders that hold the splits when the set's own archive is unpacked.
_UNPACKED = {
    "tiny-imagenet": ("tiny-imagenet-200",),
    "uc-merced": ("UCMerced_LandUse/Images", "Images"),
    "rsod": ("RSOD-Dataset", "RSOD"),
    "siri-whu": ("12class_tif",),
    "aid": ("AID",),
    "d0": ("D0",),
    "dtd": ("dtd/images", "images"),
    "imagenette": ("imagenette2-160", "imagenette2-320", "imagenette2"),
}
DATASETS = {
    name: f"{p.about}: {p.n_images:,} images, {p.n_clusters} classes" for name, p in SETS.items()
}


class _Part(NamedTuple):
    """Images of one source, and the label of each; None where it is not of the set."""

    prefix: str  # of its keys
    images: Images
    labels: list[str | None]


class _Joined(Images):
    """The images of the parts that are of the set, part after part."""

    def __init__(self, location: str, parts: list[_Part]) -> None:
        kinds = {part.images.kind for part in parts}
        # Keys of joined tars are no paths: nothing can be opened again from location and kind.
        self.kind = kinds.pop() if len(parts) == 1 or kinds in ({"folder"}, {"array"}) else "joined"
        rows = {
            part.prefix + key: (part.images, row)
            for part in parts
            for row, (key, label) in enumerate(zip(part.images.keys, part.labels, strict=True))
            if label is not None
        }
        skipped = [(part.prefix + p, why) for part in parts for p, why in part.images.skipped]
        super().__init__(location, rows, skipped)
        self._rows = list(rows.values())
        # A folder would tell the splits apart as well.
        self.labels = [label for part in parts for label in part.labels if label is not None]

    def stat(self, row: int) -> tuple[int, float]:
        images, row = self._rows[row]
        return images.stat(row)

    def read(self, row: int) -> bytes | np.ndarray:
        images, row = self._rows[row]
        return images.read(row)


def open_dataset(name: str, folder: str | Path) -> DataSet:
    """Open a public set from its files, with the splits and classes of the literature.

    Parameters
    ----------
    name
        One of `DATASETS`.
    folder
        Where its files are, in any of these layouts:

        - as torchvision unpacks CIFAR-10, CIFAR-100 and STL-10;
        - a tar of class folders for each split, such as ``cifar10-train.tar``;
        - a folder of class folders for each split, such as ``train``, itself in ``folder``, in
          ``folder/NAME`` or in what the set's archive unpacks to. Where the set has one split,
          the class folders may also lie there directly.

    Returns
    -------
    DataSet
        n images and their labels (n,), k, and the edge in pixels. None of the images has been
        read, except from torchvision's layout, which is held in memory.

    Raises
    ------
    SourceError
        There is no such set, it is not in the folder, a class is missing or a file is damaged.

    Warns
    -----
    UserWarning
        The number of images is not the protocol's: scores cannot be compared with published ones.
    """
    if name not in SETS:
        raise SourceError(f"expected the name of a set, one of {', '.join(SETS)}; got {name!r}")
    wanted = SETS[name]
    root = os.path.abspath(user_path(folder))
    parts = [part for split in wanted.splits for part in _parts(wanted, root, split)]
    labels = [label for part in parts for label in part.labels if label is not None]
    if len(labels) != wanted.n_images:
        warnings.warn(
            f"expected {wanted.n_images:,} images of {name} in {root}, found {len(labels):,}; "
            "scores cannot be compared with published ones: copy or unpack the set again",
            stacklevel=2,
        )
    images: Images
    if len(parts) == 1 and len(labels) == len(parts[0].images):
        images = parts[0].images
    else:
        images = _Joined(parts[0].images.location if len(parts) == 1 else root, parts)
    return DataSet(name, images, labels, wanted.n_clusters, wanted.image_size)


def _parts(wanted: Protocol, root: str, split: str) -> list[_Part]:
    """One split: an array, a tar, or a part for each class folder."""
    prefix = f"{split}/" if len(wanted.splits) > 1 else ""
    places = ("", wanted.stem, *_UNPACKED.get(wanted.stem, ()))
    bases = [os.path.normpath(os.path.join(root, place)) for place in places]
    if wanted.stem in _TORCHVISION:
        for base in bases:
            if os.path.isdir(os.path.join(base, _TORCHVISION[wanted.stem][1])):
                return [_from_torchvision(wanted, base, split, prefix)]
    stem = _stem(wanted, split)
    for path in (os.path.join(base, stem + suffix) for base in bases for suffix in TAR_SUFFIXES):
        if os.path.isfile(path):
            return [_from_tar(wanted, path, prefix)]
    # Last, and for one split only: the class folders without a folder of the split around them.
    names = [stem, split] if prefix else [stem, split, ""]
    incomplete = ""
    for path in (os.path.normpath(os.path.join(base, name)) for base in bases for name in names):
        found = {name: label for name in _folders(path) if (label := _label(wanted, name))}
        if found and not (lacking := _lacking(wanted, found)):
            return [_from_folder(os.path.join(path, name), root, found[name]) for name in found]
        if found and (wanted.classes is not None or path != root):  # else they may be anything
            incomplete = incomplete or f"{path} {lacking}"
    raise SourceError(incomplete or _not_there(wanted, root, split))


def _stem(wanted: Protocol, split: str) -> str:
    return f"{wanted.stem}-{split}" if split else wanted.stem


def _label(wanted: Protocol, name: str) -> str | None:
    """Label of a class folder; None for the other folders."""
    if wanted.classes is None:
        return None if name.startswith((".", "__")) else name
    if not wanted.classes:
        return name if _WORDNET_ID.fullmatch(name) else None
    return wanted.classes.get(name, name if name in wanted.classes.values() else None)


def _lacking(wanted: Protocol, found: Iterable[str]) -> str:
    """What is wrong with the class folders found, or nothing."""
    found = set(found)
    if wanted.classes:
        missing = [name for name, label in wanted.classes.items() if not {name, label} & found]
        wrong = f"missing: {_few(missing)}" if missing else ""
    else:
        wrong = f"{len(found)} were found" if len(found) != wanted.n_clusters else ""
    return wrong and (
        f"should hold the {len(wanted.classes or ()) or wanted.n_clusters} class folders of "
        f"{wanted.about}; {wrong}; copy or unpack the set again"
    )


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _not_there(wanted: Protocol, root: str, split: str) -> str:
    found = "no images" + (f" of {split}" if split else "")
    found = found if os.path.isdir(root) else "no such folder"
    ways = [" and ".join(f"{_stem(wanted, split)}.tar" for split in wanted.splits)]
    if wanted.stem in _TORCHVISION:
        ways.insert(0, f"{_TORCHVISION[wanted.stem][1]} as torchvision unpacks it")
    if wanted.stem in _UNPACKED:
        ways.append(f"{_UNPACKED[wanted.stem][0]} as its archive unpacks")
    if any(wanted.splits):
        ways.append("a folder " + " and a folder ".join(wanted.splits))
    named = "of any names" if wanted.classes is None else "named by WordNet ids"
    classes = _few(wanted.classes or ()) or f"{wanted.n_clusters} {named}"
    unseen = (
        "" if wanted.is_seen else "; the set's own files were never seen, they may lie otherwise"
    )
    return (
        f"expected {wanted.about}, in {root}, found {found}; put there {', or '.join(ways)}, with "
        f"the class folders in it ({classes}); nothing is downloaded{unseen}"
    )


def _folders(path: str) -> list[str]:
    """Names of the folders in a folder, sorted; none where there is no such folder."""
    if not os.path.isdir(path):
        return []
    try:
        return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))
    except OSError as error:
        raise SourceError(f"expected a readable folder; {path}: {error.strerror}") from error


def _from_folder(path: str, root: str, label: str) -> _Part:
    images = open_images(path)
    prefix = os.path.relpath(path, root).replace(os.sep, "/") + "/"
    return _Part(prefix, images, [label] * len(images))


def _from_tar(wanted: Protocol, path: str, prefix: str) -> _Part:
    images = open_images(path)
    folders: list[str | None] = []
    for key in images.keys:
        # The innermost: CIFAR-100 has a class "train", and around it may be a folder of the split.
        inwards = reversed(key.split("/")[:-1])
        folders.append(next((name for name in inwards if _label(wanted, name)), None))
    if lacking := _lacking(wanted, filter(None, folders)):
        raise SourceError(f"{path} {lacking}")
    return _Part(prefix, images, [name and _label(wanted, name) for name in folders])


def _from_torchvision(wanted: Protocol, base: str, split: str, prefix: str) -> _Part:
    """An array of one split; torchvision compares the files' checksums before it reads them."""
    from torchvision import datasets  # takes seconds

    kind, files = _TORCHVISION[wanted.stem]
    which: dict[str, Any] = {"split": split} if kind == "STL10" else {"train": split == "train"}
    try:
        found = getattr(datasets, kind)(base, **which)
    except (RuntimeError, OSError) as error:
        raise SourceError(
            f"expected all files of {files}, as in its archive, in {base}; torchvision finds some "
            "missing or damaged; copy or unpack the archive again"
        ) from error
    if kind == "STL10":
        pixels, targets = np.moveaxis(found.data, 1, -1), found.labels
    else:
        pixels, targets = found.data, found.targets
    classes = getattr(found, "classes", sorted(wanted.classes or ()))
    return _Part(prefix, open_images(pixels), [_label(wanted, classes[n]) for n in targets])
