"""The run folder: what is written, what is read back.

In: the clusters of n images and all that is known of how they came about.
Out: files, and from files a checked :class:`Run` with columns of length n. The only place that
knows the files' names and columns; whatever is missing or damaged ends in a RunError naming it.
"""

import csv
import io
import json
import shutil
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfavbs.errors import RunError
from mfavbs.store import path_from_spreadsheet, spreadsheet_path, write_json, write_whole

SCHEMA = 1
# All that a run writes, and so all that overwriting one may remove; run.json is written last.
FILES = ("run.json", "labels.csv", "labels.parquet", "failures.csv", "metrics.json", "report.html")
UNFINISHED = "unfinished.json"  # the parameters of a run under way
CHECKPOINT = "checkpoint.pt"
FEATURES = "features"
MODEL = "model"
# What each file must hold, and what it may; a key that may be missing may be null as well.
RECORD = {"schema": int, "source": dict, "parameters": dict}
METRICS = {"n_images": int, "n_clusters": int}
OPTIONAL = {
    "scores": dict,
    "baselines": dict,
    "losses": list,
    "seconds": dict,
    "encoder": dict,
    "versions": dict,
}


@dataclass(frozen=True)
class Run:
    """The files of a run folder. `label` indexes `names`, -1 where an image has no label."""

    folder: Path
    path: pa.ChunkedArray
    cluster: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    names: list[str]
    metrics: dict[str, Any]
    record: dict[str, Any]
    failures: list[tuple[str, str]]

    def label_of(self, row: int) -> str | None:
        """Name the label of one image."""
        code = int(self.label[row])
        return None if code < 0 else self.names[code]


def begin_run(
    folder: Path,
    parameters: dict[str, Any],
    *,
    overwrite: bool = False,
    keep_features: bool = False,
) -> None:
    """Make ``folder`` ready for a run, or go on with one that was interrupted there.

    Parameters
    ----------
    folder
        The run folder.
    parameters
        Of the run, with its ``source``: what an interrupted run must agree on to be gone on with.
    overwrite
        Replace a finished run.
    keep_features
        Of which the features are what is being clustered.

    Raises
    ------
    RunError
        If the folder holds a finished run and ``overwrite`` is false, an unfinished one of another
        source, or files that are no run's. Nothing of anybody else's is ever removed.
    """
    try:
        finished = (folder / "run.json").exists()
        begun = _unfinished(folder)
        if finished:
            _json(folder, "run.json", RECORD)  # refuses what another program calls run.json
        if finished and not overwrite:
            raise RunError(
                f"{folder} already holds a run. Give another --out, or --overwrite to replace it."
            )
        foreign = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if foreign and not finished and begun is None:
            raise RunError(
                f"{folder} exists and is not a run folder, so nothing is written into it. "
                "Give another --out."
            )
        if not finished and begun and begun["source"] != parameters["source"]:
            raise RunError(
                f"{folder} holds an unfinished run of {begun['source']}, this one is of "
                f"{parameters['source']}. Give another --out, or remove the folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        # Written first and run.json removed last: killed in between, the folder is still a run's.
        write_json(folder / UNFINISHED, parameters)
        if finished:
            _clear(folder, (MODEL,) if keep_features else (MODEL, FEATURES))
        elif begun and begun != parameters:
            changed = [name for name in parameters if begun.get(name) != parameters[name]]
            warnings.warn(
                f"{', '.join(changed)} changed since the run in {folder} was interrupted: "
                "its training begins anew.",
                stacklevel=3,
            )
            _clear(folder, (MODEL,))
    except OSError as error:
        raise unwritable(folder, error) from error


def _unfinished(folder: Path) -> dict[str, Any] | None:
    """Parameters of the interrupted run in ``folder``; None where there is none of ours."""
    try:
        begun = json.loads((folder / UNFINISHED).read_bytes())
    except (OSError, ValueError):
        return None
    ours = isinstance(begun, dict) and {"n_clusters", "encoder", "source"} <= begun.keys()
    return begun if ours else None


def _clear(folder: Path, folders: tuple[str, ...]) -> None:
    for name in folders:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (CHECKPOINT, *reversed(FILES)):
        (folder / name).unlink(missing_ok=True)


def write_labels(
    folder: Path,
    paths: Sequence[str],
    clusters: np.ndarray,
    probabilities: np.ndarray,
    labels: Sequence[str | None] | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> None:
    """Write labels.csv, labels.parquet and failures.csv, each under a temporary name first.

    Parameters
    ----------
    folder
        The run folder.
    paths, clusters, probabilities
        (n,) keys, (n,) cluster numbers, (n, k).
    labels
        (n,) known labels, or None.
    failures
        (path, reason) of every image that could not be read.
    """
    columns: dict[str, Any] = {
        "path": pa.array(paths, pa.string()),
        "cluster": pa.array(clusters, pa.int32()),
        "confidence": pa.array(probabilities.max(axis=1), pa.float32()),
    }
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    rows = [[spreadsheet_path(path) for path in paths], clusters.tolist()]
    rows.append([f"{p:.4f}" for p in probabilities.max(axis=1)])
    if labels is not None:
        rows.append([spreadsheet_path(label or "") for label in labels])
    flat = pa.array(probabilities.ravel(), pa.float32())
    k = probabilities.shape[1]
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, k)
    try:
        _write_csv(folder / "labels.csv", list(columns)[:-1], zip(*rows, strict=True))
        bad = [(spreadsheet_path(path), spreadsheet_path(reason)) for path, reason in failures]
        _write_csv(folder / "failures.csv", ["path", "reason"], bad)
        table = pa.table(columns)
        write_whole(folder / "labels.parquet", lambda file: pq.write_table(table, file))
    except OSError as error:
        raise unwritable(folder, error) from error


def write_record(folder: Path, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    """Write metrics.json, then run.json, which makes the run a finished one."""
    try:
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "run.json", record)
        (folder / UNFINISHED).unlink(missing_ok=True)
        for path in (folder / CHECKPOINT, (folder / CHECKPOINT).with_suffix(".partial")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _write_csv(path: Path, header: list[str], rows: Iterable[Sequence]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    # A byte order mark: without it spreadsheets take UTF-8 for the local code page. A reason may
    # quote a name's bytes that are not UTF-8.
    content = text.getvalue().encode("utf-8-sig", "backslashreplace")
    write_whole(path, lambda file: file.write(content))


def unwritable(folder: Path, error: Exception) -> RunError:
    """What to say when a file of ``folder`` could not be written."""
    reason = getattr(error, "strerror", None) or error
    return RunError(
        f"The run folder {folder} cannot be written: {reason}. What is finished "
        "stays good: make room or choose another --out, and run the same command again."
    )


def read_run(folder: Path) -> Run:
    """Read all of a run folder but the probabilities.

    Raises
    ------
    RunError
        A file is missing, damaged, of a newer schema or does not fit the others.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; a run folder of `mfavbs cluster` was expected")
    record = _json(folder, "run.json", RECORD)
    if record["schema"] > SCHEMA:
        raise RunError(
            f"{folder / 'run.json'} has schema {record['schema']}, this mfavbs reads up to "
            f"{SCHEMA}; install a newer mfavbs"
        )
    metrics = _json(folder, "metrics.json", METRICS)
    path, cluster, confidence, label, names = _labels(_file(folder, "labels.parquet"))
    if len(cluster) != metrics["n_images"]:
        raise RunError(
            f"metrics.json counts {metrics['n_images']} images, labels.parquet has "
            f"{len(cluster)} rows; the files in {folder} are not of one run, cluster again"
        )
    failures = _failures(_file(folder, "failures.csv"))
    return Run(folder, path, cluster, confidence, label, names, metrics, record, failures)


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


def read_truth(path: Path) -> dict[str, str]:
    """Known labels by path, from a CSV with the columns path and label.

    Raises
    ------
    RunError
        If the file is missing or has not those columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"path", "label"} <= set(rows.fieldnames or []):
                raise RunError(
                    f"{path} has the columns {rows.fieldnames}; expected path and label, "
                    "with the paths of labels.csv."
                )
            return {path_from_spreadsheet(row["path"]): row["label"] or "" for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"The truth {path} cannot be read: {error}") from error


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise RunError(f"no {name} in {folder}; is this a run folder of `mfavbs cluster`?")
    return path


def _damaged(path: Path, expected: str, came: object) -> RunError:
    return RunError(f"{path} is damaged: expected {expected}, got {came}; cluster again")


def _json(folder: Path, name: str, needed: Mapping[str, type]) -> dict[str, Any]:
    path = _file(folder, name)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "JSON", error) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(value, dict):
        raise _damaged(path, "an object", type(value).__name__)
    for key, kind in needed.items():
        if not isinstance(value.get(key), kind):
            raise _damaged(path, f"{kind.__name__} as {key!r}", repr(value.get(key)))
    for key, kind in OPTIONAL.items():
        if value.get(key) is not None and not isinstance(value[key], kind):
            raise _damaged(path, f"{kind.__name__} as {key!r}", repr(value[key]))
    return value


def _labels(
    path: Path,
) -> tuple[pa.ChunkedArray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            missing = [name for name in ("path", "cluster", "confidence") if name not in names]
            if missing:
                raise _damaged(path, f"the column {missing[0]!r}", f"the columns {names}")
            table = file.read(columns=[name for name in names if name != "probabilities"])
        cluster = table["cluster"].cast(pa.int64())
        if cluster.null_count or table["path"].null_count:
            raise _damaged(path, "a path and a cluster in every row", "an empty one")
        paths = table["path"].cast(pa.string())
        confidence = table["confidence"].cast(pa.float64()).to_numpy()
        label, values = _encoded(table)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, "the labels of a run as Parquet", error) from error
    return paths, cluster.to_numpy(), confidence, label, values


def _encoded(table: pa.Table) -> tuple[np.ndarray, list[str]]:
    if "label" not in table.column_names:
        return np.full(len(table), -1), []
    # An empty label is none.
    column = table["label"].cast(pa.string())
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.fill_null(-1).to_numpy(), encoded.dictionary.to_pylist()


def _failures(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            rows = csv.DictReader(file)
            if not {"path", "reason"} <= set(rows.fieldnames or []):
                raise _damaged(path, "the columns path and reason", rows.fieldnames)
            return [(path_from_spreadsheet(row["path"] or ""), row["reason"] or "") for row in rows]
    except (csv.Error, OSError) as error:
        raise _damaged(path, "CSV", error) from error
