"""In: a folder, a list of paths, a tar or an array (n, h, w[, 1|3|4]). Out: n candidate images.

Each has a key, a stat, a content (bytes, or uint8 (h, w[, c])) and, decoded, upright RGB (h, w, 3).
What cannot be read or decoded raises `ImageError` with its reason; nothing is dropped in silence.
"""

import gzip
import os
import stat
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from mfavbs.errors import ImageError, SourceError
from mfavbs.images.decoding import content_hash, decode
from mfavbs.images.finding import SUFFIXES, hidden, lines, listed, suffix_of, utf8, walk

__all__ = ["Images", "content_hash", "decode", "folder_labels", "open_images"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
LIST_SUFFIXES = (".txt", ".lst", ".list")
ACCEPTED = (
    f"a folder of images, a tar ({', '.join(TAR_SUFFIXES)}), a text file of paths, one per line "
    f"({', '.join(LIST_SUFFIXES)}), a list of paths or an array"
)


class Images:
    """Candidate images: what could be an image by its name; whether it is shows on reading.

    Attributes
    ----------
    kind
        ``"folder"``, ``"tar"``, ``"list"`` or ``"array"``.
    location
        Absolute path of the folder, tar or text file; empty for an array or a list of paths.
    keys
        Unique names, valid UTF-8: relative POSIX paths, sorted for a folder, else in file order.
    ignored
        How many files were passed over, by lower-case suffix. ``"(duplicate)"`` counts repeated
        lines and members, ``".jpg (not a file)"`` the links, pipes and such with that suffix.
    labels
        Known label of every key where it is not its folder, as in a public set; else None.
    """

    kind: str
    labels: Sequence[str] | None = None

    def __init__(self, location: str, keys: Iterable[str], ignored: dict[str, int]) -> None:
        self.location = location
        self.keys = list(keys)
        self.ignored = dict(ignored)

    def __len__(self) -> int:
        return len(self.keys)

    def stat(self, row: int) -> tuple[int, float]:
        """Size in bytes and modification time; (-1, 0.0) for a file that is not there."""
        raise NotImplementedError

    def read(self, row: int) -> bytes | np.ndarray:
        """Undecoded content of one image; raises `ImageError` where it cannot be had."""
        raise NotImplementedError


class _Files(Images):
    def __init__(
        self, kind: str, location: str, paths: dict[str, str], ignored: dict[str, int]
    ) -> None:
        super().__init__(location, paths, ignored)
        self.kind = kind
        self._paths = list(paths.values())

    def stat(self, row: int) -> tuple[int, float]:
        try:
            found = os.stat(self._paths[row])
        except (OSError, ValueError):  # ValueError: a null byte in a listed path
            return -1, 0.0
        return found.st_size, found.st_mtime

    def read(self, row: int) -> bytes:
        path = self._paths[row]
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISDIR(mode):
                os.scandir(path).close()  # a folder that could not be listed says why
            if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
                raise ImageError("not a regular file")
            with open(path, "rb") as file:
                content = file.read()
        except ImageError:
            raise
        except (OSError, ValueError) as error:
            raise ImageError(getattr(error, "strerror", None) or str(error)) from error
        return _not_empty(content)


class _Tar(Images):
    kind = "tar"

    def __init__(self, path: str) -> None:
        self._path = path
        self._handle: IO[bytes] | None = None
        self._pid = -1
        members, ignored = self._index()
        super().__init__(path, members, ignored)
        self._members = list(members.values())

    def _index(self) -> tuple[dict[str, tuple[int, int, float]], Counter[str]]:
        members: dict[str, tuple[int, int, float]] = {}
        ignored: Counter[str] = Counter()
        count = 0
        try:
            with tarfile.open(fileobj=self._file(), mode="r:") as tar:
                for member in tar:
                    count += 1
                    # Nothing is extracted, so a name leading outside only needs a safe key.
                    parts = [part for part in member.name.split("/") if part not in ("", ".")]
                    parts = ["__" if part == ".." else part for part in parts]
                    if member.isdir() or not parts or any(map(hidden, parts)):
                        continue
                    suffix = suffix_of(parts[-1])
                    if not member.isreg() or member.issparse():
                        ignored[f"{suffix} (not a file)"] += 1
                    elif suffix not in SUFFIXES:
                        ignored[suffix] += 1
                    else:
                        key = utf8("/".join(parts))
                        # The last of equal names wins, as it does when a tar is unpacked; taken
                        # out first, so that rows stay in the order of their offsets.
                        ignored["(duplicate)"] += members.pop(key, None) is not None
                        members[key] = (member.offset_data, member.size, float(member.mtime))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise SourceError(
                f"expected a whole tar, but {self._path} cannot be read after {count} members: "
                f"{error}; copy or download it again"
            ) from error
        return members, +ignored

    def _file(self) -> IO[bytes]:
        # One handle per process: after a fork, parent and child would move one shared position.
        if self._handle is None or self._pid != os.getpid():
            opened = open if self._path.lower().endswith(".tar") else gzip.open
            self._handle = cast(IO[bytes], opened(self._path, "rb"))
            self._pid = os.getpid()
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def stat(self, row: int) -> tuple[int, float]:
        return self._members[row][1:]

    def read(self, row: int) -> bytes:
        offset, size, _ = self._members[row]
        try:
            # In a gz, a seek forward decompresses what lies between and a seek back starts again
            # from the first byte; rows read in increasing order make one pass over the file.
            file = self._file()
            file.seek(offset)
            content = file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            self._handle = None
            raise ImageError(f"tar cannot be read: {error}") from error
        if len(content) < size:
            raise ImageError(f"truncated: {len(content)} of {size} bytes are in the tar")
        return _not_empty(content)


class _Array(Images):
    kind = "array"

    def __init__(self, pixels: np.ndarray) -> None:
        if pixels.ndim not in (3, 4) or pixels.shape[3:] not in ((), (1,), (3,), (4,)):
            hint = "give features to MFAVBsClustering.fit" if pixels.ndim == 2 else "reshape it"
            if pixels.ndim == 4 and pixels.shape[1] in (1, 3, 4):
                hint = "move the channels last: np.moveaxis(images, 1, -1)"
            raise SourceError(
                f"expected images (n, h, w) or (n, h, w, 1|3|4), got shape {pixels.shape}; {hint}"
            )
        if 0 in pixels.shape:
            raise SourceError(f"expected at least one image and pixel, got shape {pixels.shape}")
        if pixels.dtype != np.uint8:
            expected = "expected uint8 images in 0..255 or float images in 0..1"
            if pixels.dtype.kind != "f":
                raise SourceError(f"{expected}, got {pixels.dtype}; use .astype(np.uint8)")
            low, high = float(pixels.min()), float(pixels.max())
            if not (low >= 0 and high <= 1):  # so written, NaN fails too
                raise SourceError(
                    f"{expected}, got {pixels.dtype} in {low:g}..{high:g}; divide by the largest "
                    "possible value"
                )
        width = len(str(len(pixels) - 1))
        super().__init__("", (f"{row:0{width}d}" for row in range(len(pixels))), {})
        self._pixels = pixels

    def stat(self, row: int) -> tuple[int, float]:
        return self._pixels[row].nbytes, 0.0

    def read(self, row: int) -> np.ndarray:
        pixels = self._pixels[row]
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
        return np.array(pixels)  # a copy: never a view of a memory map


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
        return _Array(source)
    if not isinstance(source, str | os.PathLike):
        return _from_paths(source)
    path = os.path.abspath(source)
    name = os.path.basename(path).lower()
    images: Images
    if os.path.isdir(path):
        images = _Files("folder", path, *walk(path))
    elif not os.path.exists(path):
        raise SourceError(f"expected {ACCEPTED}; {path} does not exist; check the path")
    elif name.endswith(TAR_SUFFIXES):
        images = _Tar(path)
    elif name.endswith(LIST_SUFFIXES):
        folder = os.path.dirname(path)
        images = _Files("list", path, *listed(lines(path), folder))
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
            f"{location} is not there any more. Put it back and write the report again with "
            "`mfavbs report`"
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
    return _Files("list", "", *listed(paths, folder))


def _not_empty(content: bytes) -> bytes:
    if not content:
        raise ImageError("empty file (0 bytes)")
    return content


def folder_labels(keys: Sequence[str]) -> list[str] | None:
    """Label each key by its folder.

    Parameters
    ----------
    keys
        `Images.keys`.

    Returns
    -------
    list of str or None
        Relative POSIX path of each key's folder, ``"."`` for one beside the folders; ``None``
        where all keys are in the same folder, which labels nothing.
    """
    labels = [key.rpartition("/")[0] or "." for key in keys]
    return labels if len(set(labels)) > 1 else None
