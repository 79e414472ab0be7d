"""In: many tars or tables, as WebDataset and `datasets` have them. Out: their images."""

import os
from collections.abc import Iterable, Sequence

from mfavbs.images.candidates import Images
from mfavbs.images.finding import utf8
from mfavbs.images.skipping import left_out_within, why_left_out
from mfavbs.images.tables import PICTURE_TABLES, Table
from mfavbs.images.tar import TAR_SUFFIXES, Tar
from mfavbs.urls import without_secrets

ARCHIVES = (*TAR_SUFFIXES, *PICTURE_TABLES)


def is_archive(place: str) -> bool:
    """Whether a path or URL is a tar or a table of pictures by its name."""
    return without_secrets(place).lower().endswith(ARCHIVES)


def open_archive(place: str, exclude: Sequence[str] = ()) -> Tar | Table:
    """Open one tar or table."""
    table = without_secrets(place).lower().endswith(PICTURE_TABLES)
    return (Table if table else Tar)(place, exclude)


def archives_in(folder: str, exclude: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Names and paths of the tars and tables below a folder, sorted."""
    found = []
    for place, folders, files in os.walk(folder):
        inside = os.path.relpath(place, folder).replace(os.sep, "/").removeprefix(".").strip("/")
        folders[:] = [f for f in folders if not why_left_out(f)]
        for file in filter(is_archive, files):
            name = f"{inside}/{file}".strip("/")
            if not left_out_within(name.split("/"), exclude)[1]:
                found.append((utf8(name), os.path.join(place, file)))
    return sorted(found)


class Shards(Images):
    """The images of many tars and tables, one after the other.

    A key is the name of the image in its shard behind the name of the shard.
    """

    kind = "shards"

    def __init__(
        self,
        location: str,
        shards: Iterable[tuple[str, str]],
        exclude: Sequence[str] = (),
    ) -> None:
        parts = []
        for name, place in shards:
            parts.append((name, open_archive(place, exclude)))
            parts[-1][1].close()  # there may be more of them than a process may hold open
        self._last: Tar | Table | None = None
        self._rows = [(part, row) for _, part in parts for row in range(len(part))]
        keys = [f"{name}/{key}" for name, part in parts for key in part.keys]
        inside = [(f"{name}/{path}", why) for name, part in parts for path, why in part.skipped]
        super().__init__(location, keys, inside)
        if parts and all(part.labels is not None for _, part in parts):
            self.labels = [label for _, part in parts for label in part.labels or ()]

    def stat(self, row: int) -> tuple[int, float]:
        part, row = self._rows[row]
        return part.stat(row)

    def read(self, row: int) -> bytes:
        part, row = self._rows[row]
        if self._last is not None and self._last is not part:
            self._last.close()
        self._last = part
        return part.read(row)


def names_of(places: Sequence[str]) -> list[str]:
    """A name for each place: its last parts, as many as tell all of them apart."""
    split = [without_secrets(place).replace(os.sep, "/").strip("/").split("/") for place in places]
    depth = 1
    while depth < max(map(len, split)) and len({tuple(s[-depth:]) for s in split}) < len(split):
        depth += 1
    return ["/".join(parts[-depth:]) for parts in split]
