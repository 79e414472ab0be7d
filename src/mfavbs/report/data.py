"""A run folder comes in, what its report shows goes out, as plain values that JSON can hold.

n images, k clusters. Nothing here knows HTML, and nothing is held per image beyond its row of
``labels.parquet`` without the probabilities: those, (n, k), are streamed.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfavbs.errors import RunError, SourceError
from mfavbs.images import IMAGE_MEMORY, Images, recorded_range, reopen_images
from mfavbs.report.changes import told
from mfavbs.report.choosing import Chosen, choose
from mfavbs.report.number import evidence_of, sentence_of
from mfavbs.report.page import shown
from mfavbs.report.shown import Cluster, Confusion, Flag, ReportData, Tile
from mfavbs.runs import (
    Run,
    Thumbnail,
    colour,
    draw_map,
    read_probabilities,
    read_run,
    read_thumbnails,
    thumbnails,
)
from mfavbs.urls import is_url

FAILURES = 100
SKIPPED = 500
CONFUSION = 30


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
        Images shown of a cluster, at least 1: three quarters are its most typical, the rest those
        that differ most. Above 50 clusters fewer are shown, to keep the page at about 5 MB.

    Raises
    ------
    RunError
        The run folder is incomplete, damaged or of a newer schema, or ``images`` has none of those
        on show.
    """
    read = read_run(Path(run))
    chosen = choose(read, per_cluster)
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


def _assemble(
    run: Run,
    chosen: Chosen,
    tile: Callable[[int], Tile],
    notes: list[str],
) -> ReportData:
    metrics, record = run.metrics, run.record
    location = str(record["source"].get("location") or "")
    clusters = _clusters(run, chosen, tile)
    insight = run.insight or {}
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
        is_chance=run.trust is not None,
        number=sentence_of(insight.get("k")),
        evidence=evidence_of(insight.get("k")),
        chosen=(insight.get("k") or {}).get("chosen"),
        named_by=str((insight.get("names") or {}).get("from") or ""),
        changes=told(run.changes),
        map=_map(run, clusters),
        outliers=[tile(row) for row in chosen.outliers],
        n_outliers=int((insight.get("outliers") or {}).get("n") or 0),
        copies=[[tile(row) for row in rows] for rows in chosen.copies],
        n_copies=chosen.n_copies,
        flags=[
            Flag(flag, chosen.n_flagged[flag], [tile(row) for row in rows])
            for flag, rows in chosen.flagged.items()
        ],
    )


def _clusters(run: Run, chosen: Chosen, tile: Callable[[int], Tile]) -> list[Cluster]:
    names = run.cluster_names
    known = (run.insight or {}).get("clusters", {})
    clusters = []
    for number, rows in chosen.members.items():
        label, purity = _majority(run, rows)
        about = known.get(str(number), {})
        others = [str(name.get("word")) for name in about.get("names") or []]
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
                name=names[number][0],
                is_given=names[number][1],
                words=[word for word in others if word != names[number][0]],
                stability=_number(about.get("stability")),
                is_apart=bool(about.get("apart")),
                colour=colour(number),
            )
        )
    return clusters


def _map(run: Run, clusters: Sequence[Cluster]) -> str | None:
    """The map as SVG, with a thumbnail of each cluster's middle image."""
    places = run.map
    if places is None or len(places) != len(run.cluster) or not len(places):
        return None
    first = {c.number: c.most[0].thumbnail for c in clusters if c.most}
    pictures = {number: picture for number, picture in first.items() if picture}
    names = {c.number: c.name and f"{shown(c.name)}{'' if c.is_given else '?'}" for c in clusters}
    return draw_map(places, run.cluster, pictures, [names[n] for n in range(len(names))])


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
    full = sorted((c for c in clusters if c.size), key=lambda c: (-c.size, c.number))
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
