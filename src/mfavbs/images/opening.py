"""In: a folder, a list of paths, a tar or an array (n, h, w[, 1|3|4]). Out: n candidate images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs.errors import SourceError
from mfavbs.images.arrays import Array
from mfavbs.images.candidates import Images
from mfavbs.images.files import Files
from mfavbs.images.finding import SUFFIXES, lines, listed, suffix_of, walk
from mfavbs.images.tar import TAR_SUFFIXES, Tar

LIST_SUFFIXES = (".txt", ".lst", ".list")
ACCEPTED = (
    f"a folder of images, a tar ({', '.join(TAR_SUFFIXES)}), a text file of paths, one per line "
    f"({', '.join(LIST_SUFFIXES)}), a list of paths or an array"
)


def open_images(source: str | Path | Sequence[str | Path] | np.ndarray) -> Images:
    """Find the candidate images of a source, without reading any of them.

    Parameters
    ----------
    source
        A folder, searched to any depth through symbolic links too; a tar, plain or gzipped; a text
        file of paths, absolute or relative to its own folder; a list of paths; or an array of
        shape (n, h, w) or (n, h, w, 1|3|4), uint8 or float in 0..1.

    Returns
    -------
    Images
        At least one candidate. A listed file that is missing is a candidate that cannot be read.

    Raises
    ------
    SourceError
        The source is missing, of another kind, damaged as a whole or has no candidate.
    """
    if isinstance(source, np.ndarray):
        return Array(source)
    if not isinstance(source, str | os.PathLike):
        return _from_paths(source)
    path = os.path.abspath(source)
    name = os.path.basename(path).lower()
    images: Images
    if os.path.isdir(path):
        images = Files("folder", path, *walk(path))
    elif not os.path.exists(path):
        raise SourceError(f"expected {ACCEPTED}; {path} does not exist; check the path")
    elif name.endswith(TAR_SUFFIXES):
        images = Tar(path)
    elif name.endswith(LIST_SUFFIXES):
        folder = os.path.dirname(path)
        images = Files("list", path, *listed(lines(path), folder))
    else:
        hint = "give its folder" if suffix_of(name) in SUFFIXES else "unpack or convert it first"
        raise SourceError(f"expected {ACCEPTED}; got the file {path}; {hint}")
    if not len(images):
        passed = ", ".join(f"{n} {s or 'no suffix'}" for s, n in sorted(images.ignored.items()))
        raise SourceError(
            f"expected images ({' '.join(sorted(SUFFIXES))}), found none in {path}; files passed "
            f"over: {passed or 'none'}; check the path or convert the files"
        )
    return images


def reopen_images(source: Mapping[str, Any]) -> Images:
    """Open the images of a run or a store where its record says they were.

    Raises
    ------
    SourceError
        The record names no place, the place is gone or cannot be opened.
    """
    kind, location = source.get("kind"), str(source.get("location") or "")
    if kind not in ("folder", "tar", "list") or not location:
        raise SourceError(f"the source of this run, {kind}, names no place to read from")
    if not os.path.exists(location):
        raise SourceError(
            f"{location} is not there any more. Put it back, or say where the images are now with "
            "`mfavbs report RUN --images SOURCE`"
        )
    try:
        return open_images(location)
    except (SourceError, OSError) as error:
        raise SourceError(f"the images cannot be opened ({error})") from error


def _from_paths(given: Sequence[str | Path]) -> Images:
    paths = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise SourceError(
                f"expected {ACCEPTED}; got a list with {type(path).__name__} in it; stack arrays "
                "to one of shape (n, h, w, 3)"
            )
        paths.append(os.path.abspath(path))
    if not paths:
        raise SourceError("expected at least one path, got an empty list; add images")
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # several drives on Windows: the keys stay absolute
        folder = os.path.dirname(paths[0])
    return Files("list", "", *listed(paths, folder))
