"""In: a folder, a list of paths, a tar or an array (n, h, w[, 1|3|4]). Out: n candidate images."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfavbs.errors import SourceError
from mfavbs.images.arrays import Array, is_of_paths
from mfavbs.images.candidates import Images
from mfavbs.images.files import Files
from mfavbs.images.finding import SUFFIXES, suffix_of, walk
from mfavbs.images.listing import LIST_SUFFIXES, STDIN, TABLE_SUFFIXES, listed, read_list
from mfavbs.images.skipping import check_patterns
from mfavbs.images.tar import TAR_SUFFIXES, Tar

ACCEPTED = (
    f"a folder of images, a tar ({', '.join(TAR_SUFFIXES)}), a text file of paths, one per line "
    f"({', '.join(LIST_SUFFIXES)}), a table with a column path ({', '.join(TABLE_SUFFIXES)}), "
    "a list of paths or an array"
)


def open_images(
    source: str | Path | Sequence[str | Path] | np.ndarray, *, exclude: Sequence[str] = ()
) -> Images:
    """Find the candidate images of a source, without reading any of them.

    Parameters
    ----------
    source
        A folder, searched to any depth through symbolic links too; a tar, plain or gzipped; a text
        file of paths, absolute or relative to its own folder, in which lines that begin with ``#``
        are comments and ``*``, ``?`` and ``**`` find files; a CSV with a column ``path``; ``"-"``
        for paths on standard input, one per line; a list of paths; or an array of shape (n, h, w)
        or (n, h, w, 1|3|4), uint8 or float in 0..1.
    exclude
        Patterns of what is left out, as ``"*_small.jpg"`` or ``"previews"`` for files and folders
        of that name, ``"raw/2019*"`` for paths below the source.

    Returns
    -------
    Images
        At least one candidate. A listed file that is missing is a candidate that cannot be read.

    Raises
    ------
    SourceError
        The source is missing, of another kind, damaged as a whole or has no candidate.
    """
    patterns = check_patterns(exclude)
    if isinstance(source, np.ndarray) and is_of_paths(source):
        source = source.tolist()
    if isinstance(source, np.ndarray):
        if patterns:
            raise SourceError("exclude= is for the names of files, which images in an array lack")
        return Array(source)
    if not isinstance(source, str | os.PathLike):
        return _from_paths(source, patterns)
    path = STDIN if os.fspath(source) == STDIN else os.path.abspath(os.path.expanduser(source))
    name = os.path.basename(path).lower()
    images: Images
    if path == STDIN or (os.path.isfile(path) and name.endswith(LIST_SUFFIXES + TABLE_SUFFIXES)):
        given, globs = read_list(path)
        location, folder = ("", os.getcwd()) if path == STDIN else (path, os.path.dirname(path))
        images = Files("list", location, *listed(given, folder, patterns, patterns=globs))
    elif os.path.isdir(path):
        images = Files("folder", path, *walk(path, patterns))
    elif not os.path.exists(path):
        raise SourceError(f"expected {ACCEPTED}; {path} does not exist; check the path")
    elif name.endswith(TAR_SUFFIXES):
        images = Tar(path, patterns)
    else:
        hint = "give its folder" if suffix_of(name) in SUFFIXES else "unpack or convert it first"
        raise SourceError(f"expected {ACCEPTED}; got the file {path}; {hint}")
    if not len(images):
        raise _none_in(path, images)
    return images


def _none_in(path: str, images: Images) -> SourceError:
    kinds = Counter(suffix_of(name) or "no suffix" for name, _ in images.skipped)
    left_out = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(10))
    for name, reason in images.skipped[:1]:
        left_out += f"; {name}: {reason}"
    place = "standard input" if path == "-" else path
    return SourceError(
        f"expected images (.jpg, .png, .tif, .webp, .heic and others), found none in {place}; "
        f"left out: {left_out or 'nothing'}; check the path or convert the files"
    )


def reopen_images(source: Mapping[str, Any], keys: Sequence[str] = ()) -> Images:
    """Open the images of a run or a store where its record says they were.

    Those of a list that was never a file, or is one no more, are found by their ``keys``.

    Raises
    ------
    SourceError
        The record names no place, the place is gone or cannot be opened.
    """
    kind, location = source.get("kind"), str(source.get("location") or "")
    if kind == "list" and source.get("folder") and not os.path.exists(location):
        return Files("list", location, *listed(keys, str(source["folder"])))
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


def _from_paths(given: Sequence[str | Path], exclude: Sequence[str]) -> Images:
    paths = []
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise SourceError(
                f"expected {ACCEPTED}; got a list with {type(path).__name__} in it; stack arrays "
                "to one of shape (n, h, w, 3)"
            )
        paths.append(os.fspath(path))
    if not paths:
        raise SourceError("expected at least one path, got an empty list; add images")
    images = Files("list", "", *listed(paths, os.getcwd(), exclude))
    if not len(images):
        raise _none_in("the list", images)
    return images
