"""In: a URL of a folder. Out: the candidate images below it, read from where they lie."""

import os
from collections.abc import Sequence
from typing import Any

from mfavbs.errors import ImageError, SourceError
from mfavbs.images.candidates import Images, not_empty
from mfavbs.images.finding import free_key, utf8, why_no_image
from mfavbs.images.skipping import Skipped, left_out_within
from mfavbs.urls import attempt, file_system, stat_of, without_secrets


class Remote(Images):
    """Images below a URL, each an object or file of its own."""

    kind = "remote"

    def __init__(self, url: str, exclude: Sequence[str] = ()) -> None:
        self._url = url
        self._connected: Any = None
        self._pid = -1
        found, skipped, self.others = self._listed(exclude)
        super().__init__(without_secrets(url), found, skipped.rows())
        self._paths = [path for path, _, _ in found.values()]
        self._stats = [(size, time) for _, size, time in found.values()]

    def _listed(
        self, exclude: Sequence[str]
    ) -> tuple[dict[str, tuple[str, int, float]], Skipped, list[str]]:
        """Candidates by key, what is left out, and names of what is no image."""
        files, root = file_system(self._url)
        shown = without_secrets(self._url)
        try:
            entries = attempt(lambda: files.find(root, detail=True), self._url)
        except OSError as error:
            raise SourceError(f"{shown} cannot be listed: {error}") from error
        found: dict[str, tuple[str, int, float]] = {}
        skipped = Skipped()
        others = []
        for path, info in sorted(entries.items()):
            given = utf8(path.removeprefix(root.rstrip("/")).strip("/")) or os.path.basename(path)
            place, why = left_out_within(given.split("/"), exclude)
            if why:
                skipped.add(place, why)
            elif no_image := why_no_image(given):
                others.append(given)
                skipped.add(given, no_image)
            else:
                found[free_key(given, found)] = (path, *stat_of(info))
        return found, skipped, others

    def _files(self) -> Any:
        # One connection a process: what a fork copies of the parent's answers to neither.
        if self._connected is None or self._pid != os.getpid():
            self._connected = file_system(self._url)[0]
            self._pid = os.getpid()
        return self._connected

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": None}

    def stat(self, row: int) -> tuple[int, float]:
        return self._stats[row]

    def read(self, row: int) -> bytes:
        try:
            files = self._files()
            content = attempt(lambda: files.cat_file(self._paths[row]), self._url)
        except OSError as error:
            raise ImageError(str(error)) from error
        return not_empty(bytes(content))
