"""In: a folder, the lines of a text file or a list of paths. Out: {key: path}, and what is ignored.

A key is the image's name for the user: a relative POSIX path, valid UTF-8 and unique. The path is
what the system calls the file. `ignored` counts the files passed over, by lower-case suffix.
"""

import codecs
import os
from collections import Counter
from collections.abc import Iterable

from mfavbs.errors import SourceError

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif",
    ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
))
# fmt: on


def suffix_of(name: str) -> str:
    """Lower-case suffix with its dot, or nothing."""
    return utf8(os.path.splitext(name)[1].lower())


def hidden(name: str) -> bool:
    """Whether a file or folder is the system's own: a dot file, or what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def utf8(name: str) -> str:
    """Name with the bytes that are not UTF-8 written out, as in ``caf\\udce9.jpg``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: str) -> tuple[dict[str, str], Counter[str]]:
    """Image files below a folder, sorted by key; each real folder is entered once.

    A folder that cannot be listed is a row of its own, so that reading it gives the reason.
    """
    found: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    real, links = [root], list[str]()
    while real or links:
        # Linked folders come last, so that an image reachable both ways keeps its real path.
        folder = real.pop() if real else links.pop(0)
        try:
            identity = os.stat(folder)
            if (identity.st_dev, identity.st_ino) in seen:
                continue
            seen.add((identity.st_dev, identity.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                reason = f"expected a readable folder; {root}: {error.strerror}"
                raise SourceError(reason) from error
            found[_free_key(root, folder, found)] = folder
            continue
        for entry in entries:
            if hidden(entry.name):
                continue
            # os.path for links: a link to itself makes DirEntry raise.
            link = entry.is_symlink()
            if os.path.isdir(entry.path) if link else entry.is_dir():
                (links if link else real).append(entry.path)
                continue
            suffix = suffix_of(entry.name)
            if suffix not in SUFFIXES:
                ignored[suffix] += 1
            elif entry.is_file(follow_symlinks=False) or (link and not _special(entry.path)):
                found[_free_key(root, entry.path, found)] = entry.path
            else:
                ignored[f"{suffix} (not a file)"] += 1
    return dict(sorted(found.items())), ignored


def _special(path: str) -> bool:
    """Whether a pipe, a socket or a device is there; a broken link is not one."""
    return os.path.exists(path) and not os.path.isfile(path)


def _key(path: str, folder: str) -> str:
    return utf8(path.removeprefix(folder.rstrip(os.sep) + os.sep).replace(os.sep, "/"))


def _free_key(root: str, path: str, taken: dict[str, str]) -> str:
    key = _key(path, root)
    while key in taken:  # two names that differ in bytes which are written out alike
        key += "~"
    return key


def lines(path: str) -> list[str]:
    """Paths in a text file, one per line, blank lines left out."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise SourceError(f"expected a readable text file; {path}: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's `>`
        text = content.decode("utf-16", "replace")
    else:
        # Other encodings keep their bytes, which is how Linux names such a file too.
        text = content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise SourceError(f"expected a text file of paths, one per line; {path} is binary")
    return [line.strip() for line in text.split("\n") if line.strip()]


def listed(paths: Iterable[str], folder: str) -> tuple[dict[str, str], Counter[str]]:
    """Paths relative to a folder or absolute, in the order given; the first of equals is kept.

    The key is relative for a file below the folder, else the absolute POSIX path. Whether the
    file exists, and whatever its suffix, is not asked here: the user named it, so it is a row.
    """
    found: dict[str, str] = {}
    ignored: Counter[str] = Counter()
    for given in paths:
        path = os.path.join(folder, given)
        key = _key(os.path.normpath(path), folder)  # not the path: with links a/../b is not b
        if key in found:
            ignored["(duplicate)"] += 1
        else:
            found[key] = path
    return found, ignored
