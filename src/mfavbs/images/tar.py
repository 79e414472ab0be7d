"""In: a tar, plain or gzipped. Out: the candidate images in it, read where they lie."""

import gzip
import os
import tarfile
import zlib
from collections.abc import Sequence
from typing import IO, Any, cast

from mfavbs.errors import ImageError, SourceError
from mfavbs.images.candidates import Images, not_empty
from mfavbs.images.finding import utf8, why_no_image
from mfavbs.images.skipping import Skipped, left_out_within
from mfavbs.urls import open_file, without_secrets

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class Tar(Images):
    """Images in a tar, which is not unpacked."""

    kind = "tar"

    def __init__(self, path: str, exclude: Sequence[str] = ()) -> None:
        self._path = path
        self._handle: IO[bytes] | None = None
        self._pid = -1
        members, skipped = self._index(exclude)
        super().__init__(without_secrets(path), members, skipped.rows())
        self._members = list(members.values())

    def _index(self, exclude: Sequence[str]) -> tuple[dict[str, tuple[int, int, float]], Skipped]:
        members: dict[str, tuple[int, int, float]] = {}
        skipped = Skipped()
        folders: set[str] = set()  # those left out, each noted once
        count = 0
        try:
            with tarfile.open(fileobj=self._file(), mode="r:") as tar:
                for member in tar:
                    count += 1
                    # Nothing is extracted, so a name leading outside only needs a safe key.
                    parts = [part for part in member.name.split("/") if part not in ("", ".")]
                    parts = [utf8("__" if part == ".." else part) for part in parts]
                    key = "/".join(parts)
                    left_out, reason = left_out_within(parts, exclude)
                    if left_out:
                        is_folder = left_out != key or member.isdir()
                        if not is_folder or left_out not in folders:
                            skipped.add(left_out + "/" * is_folder, reason)
                        folders |= {left_out} if is_folder else set()
                    elif member.isdir() or not parts:
                        continue
                    elif no_image := why_no_image(parts[-1]):
                        skipped.add(key, no_image)
                    elif not member.isreg() or member.issparse():
                        skipped.add(key, "not a regular file, but a link or another special one")
                    else:
                        # The last of equal names wins, as it does when a tar is unpacked; taken
                        # out first, so that rows stay in the order of their offsets.
                        if members.pop(key, None):
                            skipped.add(key, "again further on in the tar, where it is read")
                        members[key] = (member.offset_data, member.size, float(member.mtime))
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            shown = without_secrets(self._path)
            raise SourceError(
                f"expected a whole tar, but {shown} cannot be read after {count} members: {error}; "
                "copy or download it again"
            ) from error
        return members, skipped

    def _file(self) -> IO[bytes]:
        # One handle per process: after a fork, parent and child would move one shared position.
        if self._handle is None or self._pid != os.getpid():
            file = open_file(self._path)
            packed = not without_secrets(self._path).lower().endswith(".tar")
            self._handle = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
            self._pid = os.getpid()
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

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
        return not_empty(content)
