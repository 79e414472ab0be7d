"""What is written of every image, and of the clusters: labels.csv, labels.parquet, insight.json.

In: columns of length n, plain values. Out: files that :mod:`mfavbs.runs.labels` reads.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.files import spreadsheet_path, write_csv, write_json, write_whole
from mfavbs.runs.labels import HIERARCHY, INSIGHT, MAP
from mfavbs.runs.writing import unwritable

_PART = 65_536  # rows that are Python's objects at once
_ROWS, _NUMBERS = 2**20, 2**24  # rows of a group in Parquet, and numbers in it, at the most
_UNSHOWN = ("trust", "leaf")  # in labels.csv: the one is the confidence, the other for a program


def write_labels(
    folder: Path,
    paths: Sequence[str],
    clusters: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str | None] | None = None,
    hashes: Sequence[str] | None = None,
    since: Sequence[str] | None = None,
    more: Mapping[str, pa.Array] | None = None,
) -> None:
    """Write labels.csv and labels.parquet, each whole or not at all.

    Parameters
    ----------
    folder
        The run folder.
    paths, clusters, probabilities
        (n,) keys, (n,) cluster numbers, (n, k).
    labels
        (n,) known labels, or None.
    hashes, since
        (n,) content hashes and dates on which the images came, or None.
    more
        Further columns (n,) by name. ``trust``, the chance of the same cluster in a refit, is the
        confidence where it is known, else that is the probability of the cluster.
    """
    more = dict(more or {})
    if "trust" in more:
        confidence = more["trust"]
    else:
        confidence = pa.array(probabilities.max(axis=1), pa.float32())
    columns: dict[str, Any] = {
        "path": pa.array(paths, pa.string()),
        "cluster": pa.array(clusters, pa.int32()),
        "confidence": confidence,
    }
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    if since is not None:
        columns["since"] = pa.array(since, pa.string())
    shown = columns | {name: column for name, column in more.items() if name not in _UNSHOWN}
    columns |= more
    if hashes is not None:
        columns["hash"] = pa.array(hashes, pa.string())
    flat = pa.array(probabilities.ravel(), pa.float32())
    k = probabilities.shape[1]
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, k)
    try:
        rows = zip(*(_cells(column) for column in shown.values()), strict=True)
        write_csv(folder / "labels.csv", list(shown), rows)
        _write_parquet(folder / "labels.parquet", columns, k)
    except OSError as error:
        raise unwritable(folder, error) from error


def _cells(column: pa.Array) -> Iterable[str]:
    """A column as a spreadsheet takes it; a number in four digits, a list parted by semicolons."""
    parts = (column.slice(start, _PART).to_pylist() for start in range(0, len(column), _PART))
    values = itertools.chain.from_iterable(parts)
    if pa.types.is_floating(column.type):
        return ("" if value is None else f"{value:.4f}" for value in values)
    if pa.types.is_integer(column.type):
        return ("" if value is None else str(value) for value in values)
    if pa.types.is_list(column.type):
        return (spreadsheet_path("; ".join(value or ())) for value in values)
    return (spreadsheet_path(value or "") for value in values)


def write_insight(
    folder: Path,
    insight: dict[str, Any],
    hierarchy: dict[str, Any] | None = None,
    places: np.ndarray | None = None,
) -> None:
    """Write insight.json, and hierarchy.json and map.parquet where there is one.

    Parameters
    ----------
    folder
        The run folder.
    insight, hierarchy
        Plain values.
    places
        (n, 2) float32 of the map, in the order of labels.parquet.
    """
    try:
        if hierarchy is not None:
            write_json(folder / HIERARCHY, hierarchy)
        if places is not None:
            x, y = (pa.array(column, pa.float32()) for column in places.T)
            _write_parquet(folder / MAP, {"x": x, "y": y})
        write_json(folder / INSIGHT, insight)
    except OSError as error:
        raise unwritable(folder, error) from error


def _write_parquet(path: Path, columns: Mapping[str, pa.Array], width: int = 1) -> None:
    """Write columns, one of which has lists of a width; a group of rows is held in memory."""
    table = pa.table(dict(columns))
    rows = max(1, min(_ROWS, _NUMBERS // width))
    write_whole(path, lambda file: pq.write_table(table, file, row_group_size=rows))
