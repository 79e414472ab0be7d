"""A finished run, read back from its folder.

In: a run folder. Out: a checked :class:`Run` with columns of length n; of a few images the
probabilities (k,). Whatever is missing or damaged ends in a RunError naming it.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfavbs.errors import RunError
from mfavbs.files import read_reasons
from mfavbs.runs.labels import (
    HIERARCHY,
    INSIGHT,
    MAP,
    damaged,
    read_contents,
    read_insights,
    read_labels,
    read_map,
)
from mfavbs.runs.notebook import Notebook
from mfavbs.runs.tree import cut_tree

SCHEMA = 1
PREDICTION = "prediction.json"  # what a folder of predictions has in place of a record
# What each file must hold, and what it may; a key that may be missing may be null as well.
RECORD = {"schema": int, "source": dict, "parameters": dict}
METRICS = {"n_images": int, "n_clusters": int}
OPTIONAL = {
    "n_warnings": int,
    "scores": dict,
    "baselines": dict,
    "losses": list,
    "seconds": dict,
    "encoder": dict,
    "versions": dict,
}


@dataclass(frozen=True, repr=False, eq=False)
class Run(Notebook):
    """A finished run, as its folder has it.

    Attributes
    ----------
    folder
        The run folder.
    path
        (n,) keys of the readable images, as pyarrow strings: paths in the source.
    cluster
        (n,) number of the cluster, in [0, k).
    confidence
        (n,) ``trust`` where the run has it, else the probability of that cluster, in [1/k, 1].
    label, names
        (n,) known labels as indices into ``names``, -1 where an image has none.
    metrics
        What metrics.json holds: counts, losses, scores, seconds.
    record
        What run.json holds: source, parameters, versions.
    failures
        (path, reason) of every image that could not be read.
    hashes, since
        (n,) content hashes, and the dates on which the images came; None for features.
    trust
        (n,) chance that the image is in the same cluster in a refit on other images.
    outlier
        (n,) p-value against the run's own images, in (0, 1]: 0.01 is as odd as the oddest 1 %.
    copies
        (n,) number of the group of copies that the image is in, -1 where it is in none.
    flags
        For each image a list of what is wrong with its picture; None where it was not looked at.

    leaf
        (n,) leaf of the tree of clusters, see :meth:`cut`.

    The last five are None where the run does not have them; ``mfavbs report`` makes them.
    """

    folder: Path
    path: pa.ChunkedArray
    cluster: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    names: list[str]
    metrics: dict[str, Any]
    record: dict[str, Any]
    failures: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    hashes: list[str] | None = None
    since: list[str] | None = None
    trust: np.ndarray | None = None
    outlier: np.ndarray | None = None
    copies: np.ndarray | None = None
    flags: list[list[str] | None] | None = None
    leaf: np.ndarray | None = None

    @property
    def changes(self) -> dict[str, Any] | None:
        """What became of images and clusters since the last update, or since the run that this one
        is numbered like; or None."""
        return self._content("changes.json")

    @property
    def insight(self) -> dict[str, Any] | None:
        """What insight.json says of the clusters and of the whole, or None."""
        return self._content(INSIGHT)

    @property
    def hierarchy(self) -> dict[str, Any] | None:
        """The tree of clusters that hierarchy.json has, or None."""
        return self._content(HIERARCHY)

    @property
    def map(self) -> np.ndarray | None:
        """(n, 2) float32 places of the images on the map, or None."""
        path = self.folder / MAP
        return read_map(path) if path.exists() else None

    def _content(self, name: str) -> dict[str, Any] | None:
        return _json(self.folder, name, {}) if (self.folder / name).exists() else None

    @property
    def paths(self) -> list[str]:
        """(n,) paths of the images, relative to the source, in the order of `labels_`."""
        return self.path.to_pylist()

    @property
    def labels_(self) -> np.ndarray:
        """(n,) cluster of every image, under the name that scikit-learn's clusterings have."""
        return self.cluster

    @property
    def order(self) -> list[int]:
        """Numbers of the k clusters in the order of their tree, those without an image last."""
        k = self.metrics["n_clusters"]
        order = (self.hierarchy or {}).get("order", [])
        return [*order, *sorted(set(range(k)) - set(order))]

    def cut(self, n_clusters: int) -> np.ndarray:
        """Clusters (n,) of all images, where the tree of the run's clusters has so many.

        Of fewer than the run has, some are joined; of more, some are split. No network is asked.
        At the run's own number these are :attr:`cluster`; else clusters are numbered in the order
        of the tree.

        Raises
        ------
        RunError
            The run has no tree, or not so many leaves.
        """
        hierarchy = self.hierarchy
        if hierarchy is None or self.leaf is None:
            raise RunError(f"{self.folder} has no tree; `mfavbs report {self.folder}` makes it")
        return cut_tree(hierarchy, self.leaf, self.cluster, n_clusters)

    def compare(self, other: "Run") -> dict[str, Any]:
        """What became of this run's images and clusters in another run of some of the images.

        The other may have another k, seed or encoder. Images are the same by their contents, and
        by their names where contents are not recorded.

        Returns
        -------
        dict
            ``images``: how many are ``new``, ``kept`` and ``gone``; ``clusters``: which one
            ``continued`` as which, and what has ``grown``, ``split``, ``merged``, ``vanished`` and
            is ``new``, as :func:`mfavbs.runs.changes` has it.

        Raises
        ------
        RunError
            They have no image in common.
        """
        from mfavbs.runs.comparing import compare_runs

        return compare_runs(self, other)

    def label_of(self, row: int) -> str | None:
        """Name the label of one image."""
        code = int(self.label[row])
        return None if code < 0 else self.names[code]

    def __repr__(self) -> str:
        found, k = len(np.unique(self.cluster)), self.metrics["n_clusters"]
        asked = "" if found == k else f" of the {k} asked for"
        numbers = {n.upper(): v for n, v in (self.metrics.get("scores") or {}).items() if v}
        if not numbers and len(self.confidence):
            numbers = {"mean confidence": float(np.nanmean(self.confidence))}
        said = ", ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        return (
            f"Run {self.folder}: {len(self.cluster):,} images in {found} clusters{asked}\n"
            f"{said or 'no scores'}\n"
            f"{len(self.failures):,} could not be read; see report.html, labels_, to_pandas()"
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
    record = read_record(folder)
    if record["schema"] > SCHEMA:
        raise RunError(
            f"{folder / 'run.json'} has schema {record['schema']}, this mfavbs reads up to "
            f"{SCHEMA}; install a newer mfavbs"
        )
    metrics = _json(folder, "metrics.json", METRICS)
    path, cluster, confidence, label, names = read_labels(_file(folder, "labels.parquet"))
    if len(cluster) != metrics["n_images"]:
        raise RunError(
            f"metrics.json counts {metrics['n_images']} images, labels.parquet has "
            f"{len(cluster)} rows; the files in {folder} are not of one run, cluster again"
        )
    hashes, since = read_contents(folder / "labels.parquet")
    failures = _reasons(_file(folder, "failures.csv"))
    table = folder / "skipped.csv"  # runs made before it was written have none
    skipped = _reasons(table) if table.exists() else []
    found = (path, cluster, confidence, label, names)
    insights = read_insights(folder / "labels.parquet")
    return Run(folder, *found, metrics, record, failures, skipped, hashes, since, **insights)


def read_record(folder: Path) -> dict[str, Any]:
    """Read run.json alone; what another program calls so is a `RunError`."""
    if (folder / "swap.json").exists():
        raise RunError(
            f"{folder} is being updated, or that was cut off; wait, or run the same command again"
        )
    return _json(folder, "run.json", RECORD)


def read_clusters(folder: Path) -> tuple[list[str], np.ndarray]:
    """Paths (n,) and clusters (n,) of a run, or of the predictions of one.

    Raises
    ------
    RunError
        The folder is neither, or damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; a run folder or one of predictions was expected")
    if not (folder / PREDICTION).is_file():
        run = read_run(folder)
        return run.paths, run.cluster
    path, cluster, *_ = read_labels(_file(folder, "labels.parquet"))
    return path.to_pylist(), cluster


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise RunError(f"no {name} in {folder}; is this a run folder of `mfavbs cluster`?")
    return path


def _json(folder: Path, name: str, needed: Mapping[str, type]) -> dict[str, Any]:
    path = _file(folder, name)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise damaged(path, "JSON", error) from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(value, dict):
        raise damaged(path, "an object", type(value).__name__)
    for key, kind in needed.items():
        if not isinstance(value.get(key), kind):
            raise damaged(path, f"{kind.__name__} as {key!r}", repr(value.get(key)))
    for key, kind in OPTIONAL.items():
        if value.get(key) is not None and not isinstance(value[key], kind):
            raise damaged(path, f"{kind.__name__} as {key!r}", repr(value[key]))
    return value


def _reasons(path: Path) -> list[tuple[str, str]]:
    try:
        return read_reasons(path)
    except KeyError as error:
        raise damaged(path, "the columns path and reason", error.args[0]) from error
    except (csv.Error, OSError) as error:
        raise damaged(path, "CSV", error) from error
