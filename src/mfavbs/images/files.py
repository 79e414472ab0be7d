"""In: {key: path}, of a folder or a list. Out: the candidate images in these files."""

import os
import stat

from mfavbs.errors import ImageError
from mfavbs.images.candidates import Images, not_empty
from mfavbs.images.skipping import Skipped
from mfavbs.urls import is_url, read_url


class Files(Images):
    """Images that are files of their own, found in a folder or listed."""

    def __init__(self, kind: str, location: str, paths: dict[str, str], skipped: Skipped) -> None:
        super().__init__(location, paths, skipped.rows())
        self.kind = kind
        self._paths = list(paths.values())

    def stat(self, row: int) -> tuple[int, float]:
        if is_url(self._paths[row]):
            return 0, 0.0  # taken for unchanged: asking would be a call for each
        try:
            found = os.stat(self._paths[row])
        except (OSError, ValueError):  # ValueError: a null byte in a listed path
            return -1, 0.0
        return found.st_size, found.st_mtime

    def file(self, row: int) -> str:
        return os.path.abspath(self._paths[row])

    def read(self, row: int) -> bytes:
        path = self._paths[row]
        if is_url(path):
            return not_empty(read_url(path))
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
        return not_empty(content)
