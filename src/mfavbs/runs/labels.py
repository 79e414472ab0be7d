"""The labels of a run, read back: ``labels.parquet``.

In: a run folder or the file in it. Out: columns of length n; probabilities (k,) of a few images, or
(n, k) of all.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfavbs.errors import RunError

INSIGHT, HIERARCHY, MAP = "insight.json", "hierarchy.json", "map.parquet"
INSIGHTS = ("trust", "outlier", "copies", "flags", "leaf")  # columns that older runs lack


def read_labels(
    path: Path,
) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Paths, clusters and confidences (n,), labels (n,) as indices, and what these stand for."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in ("path", "cluster", "confidence") if name not in names]
            if missing:
                raise damaged(path, f"the column {missing[0]!r}", f"the columns {names}")
            table = file.read(columns=[name for name in names if name != "probabilities"])
        cluster = table["cluster"].cast(pa.int64())
        if cluster.null_count or table["path"].null_count:
            raise damaged(path, "a path and a cluster in every row", "an empty one")
        paths = table["path"].cast(pa.string())
        confidence = table["confidence"].cast(pa.float64()).to_numpy()
        label, values = _encoded(table)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the labels of a run as Parquet", error) from error
    return paths, cluster.to_numpy(), confidence, label, values


def read_contents(path: Path) -> tuple[list[str] | None, list[str] | None]:
    """Content hashes (n,) and dates of coming (n,), where the run was of images."""
    try:
        with pq.ParquetFile(path) as file:
            if not {"hash", "since"} <= set(file.schema_arrow.names):
                return None, None
            table = file.read(columns=["hash", "since"])
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the labels of a run as Parquet", error) from error
    return table["hash"].to_pylist(), table["since"].to_pylist()


def read_insights(path: Path) -> dict[str, Any]:
    """The columns of :data:`INSIGHTS` that there are, (n,) each.

    ``trust`` and ``outlier`` are float64, NaN where unknown; ``copies`` int64, -1 where an image
    is in no group; ``leaf`` int64; ``flags`` a list for each image, or None where it was not
    looked at.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in INSIGHTS if name in file.schema_arrow.names]
            table = file.read(columns=names)
        found: dict[str, Any] = {}
        for name in names:
            column = table[name]
            if name == "flags":
                found[name] = column.to_pylist()
            elif name in ("copies", "leaf"):
                found[name] = column.cast(pa.int64()).fill_null(-1).to_numpy()
            else:
                found[name] = column.cast(pa.float64()).to_numpy()
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the labels of a run as Parquet", error) from error
    return found


def read_columns(folder: Path) -> dict[str, pa.Array]:
    """The columns of :data:`INSIGHTS` that labels.parquet has, as it has them."""
    path = folder / "labels.parquet"
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in INSIGHTS if name in file.schema_arrow.names]
            table = file.read(columns=names).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the labels of a run as Parquet", error) from error
    return {name: pa.concat_arrays(table[name].chunks) for name in names}


def read_map(path: Path) -> np.ndarray:
    """Places (n, 2) float32 on the map."""
    try:
        table = pq.read_table(path, columns=["x", "y"])
        return np.column_stack([table[name].to_numpy() for name in ("x", "y")])
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the columns x and y as Parquet", error) from error


def read_probabilities(folder: Path, rows: Collection[int]) -> dict[int, list[float]]:
    """Read the probabilities of a few rows, each of length k, without holding all (n, k).

    Rows are left out where the run has no probabilities.
    """
    found: dict[int, list[float]] = {}
    with pq.ParquetFile(folder / "labels.parquet") as file:
        if "probabilities" not in file.schema_arrow.names:
            return found
        start = 0
        for batch in file.iter_batches(columns=["probabilities"]):
            for row in rows:
                if start <= row < start + len(batch):
                    found[row] = batch.column(0)[row - start].as_py() or []
            start += len(batch)
    return found


def read_all_probabilities(folder: Path) -> np.ndarray:
    """Read the probabilities of all rows, (n, k)."""
    column = pq.read_table(folder / "labels.parquet", columns=["probabilities"])["probabilities"]
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1)


def _encoded(table: pa.Table) -> tuple[np.ndarray, list[str]]:
    if "label" not in table.column_names:
        return np.full(len(table), -1), []
    # An empty label is none.
    column = table["label"].cast(pa.string())
    column = pc.if_else(
        pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, pa.string()), column
    )
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary.to_pylist()


def damaged(path: Path, expected: str, came: object) -> RunError:
    """What to say of a file of a run that is not as it was written."""
    return RunError(f"{path} is damaged: expected {expected}, got {came}; cluster again")
