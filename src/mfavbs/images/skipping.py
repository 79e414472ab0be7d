"""In: names of files and folders. Out: whether one is left out, and why; and the list of those.

What is left out by its name is never read. What is not, but cannot be read, is a failure.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from unicodedata import normalize

from mfavbs.errors import SourceError

NO_IMAGE = "not an image by its name"
NOT_READ = "a kind of image that is not read: convert it to PNG or JPEG"
# Of one folder, suffix and reason so many are named; then, and beyond so many rows, they are only
# counted: a folder may hold a million text files.
NAMED = 100
ROWS = 100_000
# Names that systems, cameras and storage devices give to what is nobody's picture, in lower case.
SYSTEM = {
    "@eadir": "thumbnails and indexes of a Synology NAS",
    "#recycle": "the recycle bin of a NAS",
    "@recycle": "the recycle bin of a NAS",
    "#snapshot": "snapshots of a NAS",
    "@recently-snapshot": "snapshots of a NAS",
    "~snapshot": "snapshots of a NAS",
    "$recycle.bin": "the recycle bin of Windows",
    "system volume information": "a folder of Windows",
    "lost+found": "what a check of the file system found",
    "lost.dir": "what a check of the file system found",
    "__macosx": "what macOS adds to archives",
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs.db": "thumbnails of Windows",
    "ehthumbs_vista.db": "thumbnails of Windows",
    "desktop.ini": "a file of Windows",
    "picasa.ini": "a file of Picasa",
    "zbthumbnail.info": "thumbnails of a camera's software",
}
# A number is none: frames of a series would be a kind each.
_SUFFIX = re.compile(r"\.(?=.*[a-z])[a-z0-9]{1,5}")


def why_left_out(name: str) -> str | None:
    """Why a file or folder of this name is nobody's picture; None where it may be one."""
    if name.startswith("."):
        return "hidden: its name begins with a dot"
    return SYSTEM.get(name.rstrip("\r").lower())


def check_patterns(exclude: Sequence[str]) -> list[str]:
    """Patterns as :func:`excluded_by` wants them.

    Raises
    ------
    SourceError
        One of them is empty, or they are no list.
    """
    if isinstance(exclude, str):
        raise SourceError(f"expected a list of patterns, got exclude={exclude!r}; [{exclude!r}] is")
    patterns = [normalize("NFC", p).removeprefix("./").strip("/") for p in exclude]
    if not all(patterns):
        raise SourceError(
            "expected patterns of names to leave out, as '*_small.jpg', 'previews' or 'raw/2019*'; "
            f"got exclude={list(exclude)!r}, of which one is empty"
        )
    return patterns


def excluded_by(key: str, patterns: Sequence[str]) -> str | None:
    """Why a pattern leaves out the file or folder ``key``; None where none does.

    Parameters
    ----------
    key
        Relative POSIX path. A folder's own files are not looked at once it is left out.
    patterns
        From :func:`check_patterns`. One without a slash is held against the last name of the key,
        one with a slash against all of it; ``*``, ``?`` and ``[a-z]`` as in a shell, ``*`` for
        slashes too, and case counts.
    """
    if not patterns:
        return None
    path = normalize("NFC", key)
    name = path.rpartition("/")[2]
    for pattern in patterns:
        held = path if "/" in pattern else name
        if fnmatchcase(held, pattern) or fnmatchcase(held, pattern.replace("**/", "")):
            return f"left out by the pattern {pattern}"
    return None


def left_out_within(parts: Sequence[str], exclude: Sequence[str]) -> tuple[str, str]:
    """The outermost part of a path that is left out, as a path, and why; or nothing."""
    for depth, part in enumerate(parts, start=1):
        path = "/".join(parts[:depth])
        if reason := why_left_out(part) or excluded_by(path, exclude):
            return path, reason
    return "", ""


class Skipped:
    """What is left out of a source, as (path, reason), in bounded memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []
        self._named: Counter[tuple[str, str]] = Counter()
        self._more: Counter[tuple[str, str]] = Counter()

    def add(self, path: str, reason: str) -> None:
        """Note a file, or a folder whose path ends in a slash."""
        full = len(self._rows) >= ROWS
        group = ("*" if full else _alike(path), reason)
        if full or self._named[group] >= NAMED:
            self._more[group] += 1
        else:
            self._named[group] += 1
            self._rows.append((path, reason))

    def rows(self) -> list[tuple[str, str]]:
        """Sorted; of those that are only counted, one row says how many more there are."""
        more = [
            (place, f"{reason}: {n:,} more, not named one by one")
            for (place, reason), n in self._more.items()
        ]
        return sorted(self._rows + more)


def _alike(path: str) -> str:
    """The files beside this one with the same suffix, as a pattern."""
    folder, slash, name = path.rstrip("/").rpartition("/")
    suffix = os.path.splitext(name)[1].lower()
    return f"{folder}{slash}*{suffix if _SUFFIX.fullmatch(suffix) else ''}"
