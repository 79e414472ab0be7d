"""In: a folder. Out: {key: path} of its candidate images, and what was left out, with the reasons.

A key is the image's name for the user: a relative POSIX path, valid UTF-8 and unique. The path is
what the system calls the file.
"""

import os
from collections.abc import Container, Sequence

from mfavbs.errors import SourceError
from mfavbs.images.skipping import NO_IMAGE, NOT_READ, Skipped, excluded_by, why_left_out

# fmt: off
# Read with the extra mfavbs[heif], and mfavbs[raw]; candidates without them too, so that each such
# file stands among the failures with the extra that it wants.
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef",
    ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf",
    ".srw", ".x3f",
))
SUFFIXES = HEIF_SUFFIXES | RAW_SUFFIXES | frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif",
    ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif",
))
_NOT_READ = frozenset((
    ".jp2", ".j2k", ".jpx", ".jxl", ".tga", ".ico", ".icns", ".psd", ".psb", ".xcf", ".svg",
    ".svgz", ".eps", ".ai", ".exr", ".hdr", ".pcx", ".dds", ".dcm", ".wmf", ".emf",
))
# fmt: on


def suffix_of(name: str) -> str:
    """Lower-case suffix with its dot, or nothing."""
    return utf8(os.path.splitext(name)[1].lower())


def why_no_image(name: str) -> str | None:
    """Why a file is no candidate by its suffix; None where it is one."""
    suffix = suffix_of(name)
    if suffix in SUFFIXES:
        return None
    return NOT_READ if suffix in _NOT_READ else NO_IMAGE


def utf8(name: str) -> str:
    """Name with the bytes that are not UTF-8 written out, as in ``caf\\udce9.jpg``."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def walk(root: str, exclude: Sequence[str] = ()) -> tuple[dict[str, str], Skipped]:
    """Candidate images below a folder, sorted by key; each real folder is entered once.

    A folder that cannot be listed is a row of its own, so that reading it gives the reason.
    """
    found: dict[str, str] = {}
    skipped = Skipped()
    seen: set[tuple[int, int]] = set()
    real, links = [root], list[str]()
    while real or links:
        # Linked folders come last, so that an image reachable both ways keeps its real path.
        folder = real.pop() if real else links.pop(0)
        try:
            identity = os.stat(folder)
            if (identity.st_dev, identity.st_ino) in seen:
                skipped.add(_key(folder, root) + "/", "a folder that is read under another name")
                continue
            seen.add((identity.st_dev, identity.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                reason = f"expected a readable folder; {root}: {error.strerror}"
                raise SourceError(reason) from error
            found[free_key(_key(folder, root), found)] = folder
            continue
        for entry in entries:
            link = entry.is_symlink()
            # os.path for links: a link to itself makes DirEntry raise.
            is_folder = os.path.isdir(entry.path) if link else entry.is_dir()
            key = _key(entry.path, root)
            why = why_left_out(entry.name) or excluded_by(key, exclude)
            if why:
                skipped.add(key + "/" * is_folder, why)
            elif is_folder:
                (links if link else real).append(entry.path)
            elif no_image := why_no_image(entry.name):
                skipped.add(key, no_image)
            elif entry.is_file(follow_symlinks=False) or (link and not _special(entry.path)):
                found[free_key(key, found)] = entry.path
            else:
                skipped.add(key, "not a regular file, but a pipe, a socket or a device")
    return dict(sorted(found.items())), skipped


def _special(path: str) -> bool:
    """Whether a pipe, a socket or a device is there; a broken link is not one."""
    return os.path.exists(path) and not os.path.isfile(path)


def _key(path: str, folder: str) -> str:
    return utf8(path.removeprefix(folder.rstrip(os.sep) + os.sep).replace(os.sep, "/"))


def free_key(key: str, taken: Container[str]) -> str:
    """The key, changed where it is taken: by a name that differs in bytes written out alike."""
    while key in taken:
        key += "~"
    return key
