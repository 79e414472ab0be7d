"""A run folder comes in, what its report shows goes out, as plain values that JSON can hold.

n images, k clusters. Nothing here knows HTML, and nothing is held per image beyond its row of
``labels.parquet`` without the probabilities: those, (n, k), are streamed.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfavbs.errors import RunError, SourceError
from mfavbs.images import IMAGE_MEMORY, Images, is_url, recorded_range, reopen_images
from mfavbs.report.keeping import read_thumbnails
from mfavbs.report.shown import Cluster, Confusion, ReportData, Tile
from mfavbs.report.thumbnails import Thumbnail, thumbnails
from mfavbs.runs import Run, read_probabilities, read_run

# 1,200 thumbnails of 3 KB, in base64, are a page of about 5 MB.
TILES = 1200
FAILURES = 100
SKIPPED = 500
CONFUSION = 30
LEAST_CERTAIN = 24


def collect(run: str | Path, images: Images | None = None, *, per_cluster: int = 24) -> ReportData:
    """Read a run folder and choose what of it to show.

    Parameters
    ----------
    run
        A run folder as ``mfavbs cluster`` leaves it.
    images
        The images clustered; by default the thumbnails kept in the run are shown, and for those
        that it lacks the images are opened where ``run.json`` says they were.
    per_cluster
        Images shown of a cluster, at least 1: three quarters are its most confident, the rest its
        least. Above 50 clusters fewer are shown, to keep the page at about 5 MB.

    Raises
    ------
    RunError
        The run folder is incomplete, damaged or of a newer schema, or ``images`` has none of those
        on show.
    """
    read = read_run(Path(run))
    chosen = _choose(read, per_cluster)
    on_show = sorted({row for rows in chosen.rows() for row in rows})
    paths = dict(zip(on_show, read.path.take(pa.array(on_show, pa.int64())).to_pylist()))
    small, notes = _thumbnails(read, images, set(paths.values()))
    probable = read_probabilities(read.folder, chosen.doubtful)

    def tile(row: int) -> Tile:
        path = paths[row]
        confidence = _number(read.confidence[row])
        likely = _two_likeliest(probable.get(row, []))
        return Tile(
            path, int(read.cluster[row]), confidence, read.label_of(row), small.get(path), likely
        )

    return _assemble(read, chosen, tile, notes)


def _thumbnails(
    run: Run, images: Images | None, paths: set[str]
) -> tuple[dict[str, Thumbnail], list[str]]:
    """Thumbnails by path and what is to be said of them."""
    kept = {path: small for path, small in read_thumbnails(run.folder).items() if path in paths}
    missing = paths - set(kept)
    source = run.record["source"]
    given = images is not None
    if given:
        missing = paths
    elif missing or not _is_there(source.get("location") or "."):
        try:
            images = reopen_images(source, sorted(paths))
        except SourceError as error:
            which = f"{len(kept):,} thumbnails kept in the run" if kept else "No thumbnails"
            return kept, [f"{which}: {error}."]
    if images is None:
        return kept, []
    made_by = run.record.get("encoder") or {}
    memory = made_by.get("image_memory", IMAGE_MEMORY)
    made, reason = thumbnails(images, missing, recorded_range(made_by), memory)
    if given and paths and not made:
        raise RunError(
            f"None of the {len(paths):,} images on show can be read from "
            f"{images.location or 'what was given'}; expected {min(paths)!r} in it, for one "
            f"({reason}). Give the folder, tar or list as it was clustered, wherever it lies now."
        )
    small = kept | made
    if reason and not paths - set(small):
        reason += "; those kept in the run are shown"
    return small, [f"{reason}."] if reason else []


def _is_there(location: str) -> bool:
    return is_url(location) or os.path.exists(location)


@dataclass(frozen=True)
class _Chosen:
    """Rows: all of a cluster, its most and its least confident on show; the least of all."""

    members: dict[int, np.ndarray]
    most: dict[int, list[int]]
    least: dict[int, list[int]]
    doubtful: list[int]

    def rows(self) -> list[list[int]]:
        return [*self.most.values(), *self.least.values(), self.doubtful]


def _choose(run: Run, per_cluster: int) -> _Chosen:
    # Most confident first; a confidence that is no number counts as the least.
    order = np.argsort(-np.nan_to_num(run.confidence, nan=-np.inf), kind="stable")
    order = order[np.argsort(run.cluster[order], kind="stable")]
    found, starts = np.unique(run.cluster[order], return_index=True)
    members = {n: np.empty(0, np.int64) for n in range(run.metrics["n_clusters"])}
    # Of no rows, split makes one empty part.
    members |= dict(zip(found.tolist(), np.split(order, starts[1:])))
    members = dict(sorted(members.items(), key=lambda item: (-len(item[1]), item[0])))

    per_cluster = max(1, min(per_cluster, TILES // max(1, len(found))))
    most: dict[int, list[int]] = {}
    least: dict[int, list[int]] = {}
    for number, rows in members.items():
        n_least = per_cluster // 4 if len(rows) > per_cluster else 0
        most[number] = rows[: per_cluster - n_least].tolist()
        least[number] = rows[len(rows) - n_least :].tolist()
    n_doubtful = min(LEAST_CERTAIN, math.ceil(len(order) / 4))
    doubtful = np.argsort(np.nan_to_num(run.confidence, nan=-np.inf), kind="stable")
    return _Chosen(members, most, least, doubtful[:n_doubtful].tolist())


def _assemble(
    run: Run, chosen: _Chosen, tile: Callable[[int], Tile], notes: list[str]
) -> ReportData:
    metrics, record = run.metrics, run.record
    location = str(record["source"].get("location") or "")
    clusters = []
    for number, rows in chosen.members.items():
        label, purity = _majority(run, rows)
        clusters.append(
            Cluster(
                number=number,
                size=len(rows),
                share=len(rows) / max(1, len(run.cluster)),
                confidence=_mean(run.confidence[rows]),
                label=label,
                purity=purity,
                most=[tile(row) for row in chosen.most[number]],
                least=[tile(row) for row in chosen.least[number]],
            )
        )
    return ReportData(
        name=Path(location).name or run.folder.resolve().name,
        source=location,
        created=record.get("created"),
        n_images=len(run.cluster),
        n_failures=len(run.failures),
        n_skipped=len(run.skipped),
        n_warnings=run.metrics.get("n_warnings") or 0,
        n_clusters=metrics["n_clusters"],
        n_clusters_found=sum(cluster.size > 0 for cluster in clusters),
        confidence=_mean(run.confidence),
        scores=_scores(metrics),
        coverage=_number(metrics.get("coverage")),
        clusters=clusters,
        least_certain=[tile(row) for row in chosen.doubtful],
        confusion=_confusion(run, clusters),
        losses=_losses(metrics.get("losses") or []),
        seconds=_numbers(metrics.get("seconds")),
        peak_memory_mib=_number(metrics.get("peak_memory_mib")),
        settings=_settings(record),
        failures=run.failures[:FAILURES],
        skipped=run.skipped[:SKIPPED],
        notes=notes,
    )


def _majority(run: Run, rows: np.ndarray) -> tuple[str | None, float | None]:
    labels = run.label[rows]
    counts = np.bincount(labels[labels >= 0], minlength=1)
    if not counts.sum():
        return None, None
    best = int(counts.argmax())
    return run.names[best], float(counts[best] / counts.sum())


def _confusion(run: Run, clusters: Sequence[Cluster]) -> Confusion | None:
    known = run.label >= 0
    if not known.any():
        return None
    frequency = np.bincount(run.label[known], minlength=len(run.names))
    columns = sorted(range(len(run.names)), key=lambda c: (-frequency[c], run.names[c]))
    place = {run.names[column]: place for place, column in enumerate(columns)}
    full = [cluster for cluster in clusters if cluster.size]
    # Largest first, so that those beyond the limit are the smallest.
    shown = full[:CONFUSION]
    shown.sort(key=lambda c: (place.get(c.label or "", len(place)), -c.size))
    counts = []
    for cluster in shown:
        labels = run.label[known & (run.cluster == cluster.number)]
        row = np.bincount(labels, minlength=len(run.names))
        counts.append([int(row[column]) for column in columns[:CONFUSION]])
    return Confusion(
        clusters=[cluster.number for cluster in shown],
        labels=[run.names[column] for column in columns[:CONFUSION]],
        counts=counts,
        n_clusters=len(full),
        n_labels=len(columns),
    )


def _scores(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    methods = {"MFAVBs": metrics.get("scores"), **(metrics.get("baselines") or {})}
    numbers = {name: _numbers(scores) for name, scores in methods.items()}
    return {name: scores for name, scores in numbers.items() if scores}


def _losses(epochs: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Turn one record per epoch into one curve, (epoch, value), per loss."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for place, losses in enumerate(epochs, start=1):
        numbers = _numbers(losses)
        epoch = numbers.pop("epoch", float(place))
        for name, value in numbers.items():
            curves.setdefault(name, []).append((epoch, value))
    return curves


def _settings(record: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    groups = {
        "Parameters": record["parameters"],
        "Encoder": record.get("encoder"),
        "Source": record["source"],
        "Made with": {"device": record.get("device"), **(record.get("versions") or {})},
    }
    return {name: values for name, values in groups.items() if values}


def _two_likeliest(probabilities: Sequence[float]) -> list[tuple[int, float]]:
    known = [(n, value) for n, value in enumerate(probabilities) if _number(value) is not None]
    return sorted(known, key=lambda item: -item[1])[:2]


def _numbers(values: object) -> dict[str, float]:
    items = values.items() if isinstance(values, Mapping) else ()
    numbers = {name: _number(value) for name, value in items}
    return {name: value for name, value in numbers.items() if value is not None}


def _number(value: Any) -> float | None:
    """Return a finite number or None: JSON has no NaN, and a page no use for one."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return None
    return float(value) if math.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
