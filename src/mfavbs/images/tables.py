"""In: Parquet or Arrow with pictures in a column. Out: the candidate images in it.

As Hugging Face `datasets` writes them: a picture is bytes, or a struct of ``bytes`` and ``path``.
Rows are read a group at a time, as they lie in the file.
"""

import json
import os
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.errors import ImageError, SourceError
from mfavbs.images.candidates import Images, not_empty
from mfavbs.images.finding import free_key, utf8
from mfavbs.images.skipping import Skipped, excluded_by
from mfavbs.urls import is_url, open_file, without_secrets

PICTURE_TABLES = (".parquet", ".arrow")
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError)


class Table(Images):
    """Pictures in a column of a Parquet or Arrow file."""

    kind = "table"

    def __init__(self, path: str, exclude: Sequence[str] = ()) -> None:
        self._path = path
        self._file: Any = None
        self._pid = -1
        self._held: tuple[int, pa.ChunkedArray | None] = (-1, None)
        try:
            self._column, groups = self._looked_into()
            self._starts = [0, *accumulate(groups)]
            found, skipped = self._named(exclude)
            stat = (0, 0.0) if is_url(path) else (os.stat(path).st_size, os.stat(path).st_mtime)
        except _BROKEN as error:
            raise SourceError(
                f"expected a table of pictures, but {without_secrets(path)} cannot be read: "
                f"{error}; copy or download it again"
            ) from error
        super().__init__(without_secrets(path), found, skipped.rows())
        self._rows = list(found.values())
        # Of the file's size each picture's share: it changes where the file does.
        self._stat = (stat[0] // max(1, self._starts[-1]), stat[1])

    def _looked_into(self) -> tuple[str, list[int]]:
        """The column of the pictures, and how many rows each group of the file has."""
        file = self._opened()
        if isinstance(file, pq.ParquetFile):
            groups = [
                file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)
            ]
        else:
            groups = [len(batch) for batch in file.to_batches()]
        return _picture_column(_schema(file), self._path), groups

    def _named(self, exclude: Sequence[str]) -> tuple[dict[str, int], Skipped]:
        """Row of each key; labels are noted where the table has them."""
        n = self._starts[-1]
        width = len(str(max(0, n - 1)))
        paths = self._all(f"{self._column}.path") or [None] * n
        labels = self._labels()
        found: dict[str, int] = {}
        kept: list[str | None] = []
        skipped = Skipped()
        for row, path in enumerate(paths):
            parts = [part for part in str(path or "").split("/") if part not in ("", ".", "..")]
            key = utf8("/".join(parts)) or f"{row:0{width}d}"
            if why := excluded_by(key, exclude):
                skipped.add(key, why)
                continue
            found[free_key(key, found)] = row
            kept.append(labels[row] if labels else None)
        if labels and None not in kept:
            self.labels = [str(label) for label in kept]
        return found, skipped

    def _labels(self) -> list[str | None] | None:
        """The column ``label`` in words, where there is one of words or of numbers with names."""
        file = self._opened()
        schema = _schema(file)
        if "label" not in schema.names:
            return None
        kind = schema.field("label").type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            return None
        values = self._all("label") or []
        names = _names_of_labels(schema)
        if names is None:
            return [None if value is None else str(value) for value in values]
        known = dict(enumerate(names))  # -1 is none, as in the test splits of `datasets`
        return [known.get(value) for value in values]

    def _all(self, column: str) -> list[Any] | None:
        """A small column, whole; None where the file has none of this name."""
        file = self._opened()
        name, _, part = column.partition(".")
        schema = _schema(file)
        kind = schema.field(name).type
        if part and (not pa.types.is_struct(kind) or kind.get_field_index(part) < 0):
            return None
        table = file.read([column]) if isinstance(file, pq.ParquetFile) else file
        values = table.column(name)
        if part:
            return [value for chunk in values.chunks for value in chunk.field(part).to_pylist()]
        return values.to_pylist()

    def _opened(self) -> Any:
        if self._file is None or self._pid != os.getpid():
            self._file = _open(self._path)
            self._pid = os.getpid()
            self._held = (-1, None)
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_held": (-1, None)}

    def close(self) -> None:
        """Let go of the file and of what is held of it; reading opens it again."""
        self._file, self._held = None, (-1, None)

    def stat(self, row: int) -> tuple[int, float]:
        return self._stat

    def read(self, row: int) -> bytes:
        row = self._rows[row]
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        try:
            value = self._group(group)[row - self._starts[group]].as_py()
        except _BROKEN as error:
            self._file = None
            raise ImageError(f"table cannot be read: {error}") from error
        if isinstance(value, dict):
            path, value = value.get("path"), value.get("bytes")
            if value is None and path:
                raise ImageError("the table has its path and not its bytes; give the folder of it")
        if value is None:
            raise ImageError("no picture in this row")
        return not_empty(value)

    def _group(self, group: int) -> pa.ChunkedArray:
        """The pictures of one group; the last one asked for is held."""
        file = self._opened()
        number, held = self._held
        if held is None or number != group:
            if isinstance(file, pq.ParquetFile):
                held = file.read_row_group(group, columns=[self._column]).column(self._column)
            else:
                start = self._starts[group]
                held = file.column(self._column).slice(start, self._starts[group + 1] - start)
            self._held = (group, held)
        return held


def _open(path: str) -> pq.ParquetFile | pa.Table:
    """A Parquet file; of Arrow the whole table, which is mapped and not in memory."""
    if without_secrets(path).lower().endswith(".parquet"):
        return pq.ParquetFile(open_file(path) if is_url(path) else path)
    if is_url(path):
        raise SourceError(
            f"{without_secrets(path)}: Arrow files are read from a disk; copy it, or give Parquet"
        )
    source = pa.memory_map(path)
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:  # `datasets` caches streams
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()


def _schema(file: pq.ParquetFile | pa.Table) -> pa.Schema:
    return file.schema_arrow if isinstance(file, pq.ParquetFile) else file.schema


def _picture_column(schema: pa.Schema, path: str) -> str:
    """The first column of pictures: a struct with bytes, as `datasets` has it, else binary."""
    binary = []
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return field.name
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            binary.append(field.name)
    if not binary:
        raise SourceError(
            f"expected a column of pictures, as bytes or as a struct of bytes and path; "
            f"{without_secrets(path)} has {', '.join(f'{f.name}: {f.type}' for f in schema)}"
        )
    return binary[0]


def _names_of_labels(schema: pa.Schema) -> list[str] | None:
    """What the numbers of ``label`` stand for, where `datasets` has noted it."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"]["label"]["names"]
    except (KeyError, ValueError, TypeError):
        return None
    return [str(name) for name in names]
