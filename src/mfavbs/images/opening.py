"""In: a folder, a list of paths, a tar or an array (n, h, w[, 1|3|4]). Out: n candidate images."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand

from mfavbs.errors import SourceError
from mfavbs.images.arrays import Array, is_of_paths
from mfavbs.images.candidates import Images
from mfavbs.images.files import Files
from mfavbs.images.finding import SUFFIXES, suffix_of, walk
from mfavbs.images.listing import LIST_SUFFIXES, STDIN, TABLE_SUFFIXES, listed, read_list
from mfavbs.images.remote import Remote
from mfavbs.images.shards import Shards, archives_in, is_archive, names_of, open_archive
from mfavbs.images.skipping import check_patterns
from mfavbs.images.tables import PICTURE_TABLES
from mfavbs.images.tar import TAR_SUFFIXES
from mfavbs.urls import is_url, without_secrets

ACCEPTED = (
    f"a folder of images, a tar ({', '.join(TAR_SUFFIXES)}), a table of pictures "
    f"({', '.join(PICTURE_TABLES)}), a folder of tars or tables, a text file of paths, one per "
    f"line ({', '.join(LIST_SUFFIXES)}), a table with a column path ({', '.join(TABLE_SUFFIXES)}), "
    "a URL of any of them (s3://, gs://, https://, hf://), a list of paths or an array"
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
        or (n, h, w, 1|3|4), uint8 or float in 0..1. A Parquet or Arrow file with pictures in a
        column, as Hugging Face ``datasets`` writes it. Many tars or tables: their folder, a list
        of them, or a pattern, as ``"shards/{000..009}.tar"``. And a URL of a folder, a tar or a
        Parquet file, whatever fsspec and the packages installed can read.
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
    if isinstance(source, str) and is_url(source):
        return _from_url(source, patterns)
    path = STDIN if os.fspath(source) == STDIN else os.path.abspath(os.path.expanduser(source))
    name = os.path.basename(path).lower()
    images: Images
    if path == STDIN or (os.path.isfile(path) and name.endswith(LIST_SUFFIXES + TABLE_SUFFIXES)):
        given, globs = read_list(path)
        location, folder = ("", os.getcwd()) if path == STDIN else (path, os.path.dirname(path))
        if given and all(map(is_archive, given)):
            places = [place for g in given for place in _expanded(g, folder)]
            return _not_none(Shards(location, zip(names_of(places), places), patterns))
        images = Files("list", location, *listed(given, folder, patterns, patterns=globs))
    elif os.path.isdir(path):
        images = Files("folder", path, *walk(path, patterns))
        if not len(images) and (archives := archives_in(path, patterns)):
            images = Shards(path, archives, patterns)
    elif not os.path.exists(path):
        places = _expanded(os.fspath(source), os.getcwd())
        if places[:1] == [path] or not all(map(is_archive, places)):
            raise SourceError(f"expected {ACCEPTED}; {path} does not exist; check the path")
        images = Shards(path, zip(names_of(places), places), patterns)
    elif is_archive(path):
        images = open_archive(path, patterns)
    else:
        hint = "give its folder" if suffix_of(name) in SUFFIXES else "unpack or convert it first"
        raise SourceError(f"expected {ACCEPTED}; got the file {path}; {hint}")
    return _not_none(images, path)


def _not_none(images: Images, place: str = "what was given") -> Images:
    """The images, unless there is none."""
    if not len(images):
        raise _none_in(images.location or place, images)
    return images


def _from_url(url: str, exclude: Sequence[str]) -> Images:
    """Images at a URL: an archive, many of them, or a folder of images or of archives."""
    if is_archive(url):
        places = list(braceexpand(url))
        if len(places) == 1:
            return _not_none(open_archive(url, exclude))
        return _not_none(Shards(without_secrets(url), zip(names_of(places), places), exclude))
    images = Remote(url, exclude)
    archives = [key for key in images.others if is_archive(key)]
    if not len(images) and archives:
        base = url.rstrip("/")
        return _not_none(Shards(images.location, [(k, f"{base}/{k}") for k in archives], exclude))
    return _not_none(images)


def _expanded(given: str, folder: str) -> list[str]:
    """The paths that ``{000..009}``, ``*`` and ``?`` stand for, absolute; or the path itself."""
    found = []
    for one in braceexpand(given) if not is_url(given) else [given]:
        path = one if is_url(one) else os.path.join(folder, os.path.expanduser(one))
        matches = [] if is_url(one) or os.path.lexists(path) else sorted(glob(path))
        found += matches or [path]
    return found


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
    if kind not in ("folder", "tar", "list", "table", "shards", "remote") or not location:
        raise SourceError(f"the source of this run, {kind}, names no place to read from")
    if kind in ("folder", "tar", "list", "table") and not (
        is_url(location) or os.path.exists(location)
    ):
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
    if all(map(is_archive, paths)):
        places = [p if is_url(p) else os.path.abspath(os.path.expanduser(p)) for p in paths]
        return _not_none(Shards("", zip(names_of(places), places), exclude))
    images = Files("list", "", *listed(paths, os.getcwd(), exclude))
    if not len(images):
        raise _none_in("the list", images)
    return images
