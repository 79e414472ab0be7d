"""What is written of a run: its labels, scores and seconds, and how it came about.

In: the clusters (n,) and probabilities (n, k) of all images, and all that is known of them.
Out: the files of a run folder but its model and its report.
"""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfavbs import __version__, runs
from mfavbs.features import nearest_own
from mfavbs.files import read_json, write_json
from mfavbs.memory import peak_memory_mib
from mfavbs.progress import Stages
from mfavbs.sources import Features
from mfavbs.understanding import Understood, understand

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering

_KMEANS_STARTS = 10
# As good as all starts on all, in a sixth of the time: docs/experiments.md, "k-means beside a run".
_KMEANS_SAMPLE = 10_000
_KMEANS_ROWS = 100_000  # images that it is gone on with
_PART = 16_384  # images answered at once


def record_run(
    out: Path,
    features: Features,
    model: "MFAVBsClustering | None",
    clusters: np.ndarray,
    probabilities: np.ndarray,
    truth: Sequence[str | None] | None,
    asked: dict[str, Any],
    losses: list[dict],
    device: str,
    stages: Stages,
    *,
    since: Sequence[str] | None = None,
    about: dict[str, Any] | None = None,
    others: dict[str, np.ndarray] | None = None,
    **questions: Any,
) -> None:
    """Write a run but for its model and its report; run.json, which makes it finished, last.

    Parameters
    ----------
    out
        The folder.
    features
        What was clustered.
    model
        Fitted on the features; without one nothing is asked of the clusters.
    clusters, probabilities
        (n,) and (n, k).
    truth
        (n,) known labels, or None.
    asked
        Every parameter of the run, with its source.
    losses, device, stages
        Of the training, as far as it is known.
    since
        (n,) dates on which the images came; by default all of them today.
    about
        More for run.json.
    others
        By name, the clusters (n,) of what stood at the run's beginning, to be scored beside it.
    **questions
        As in :func:`mfavbs.understanding.understand`.
    """
    today = now()[:10]
    if since is None and features.hashes is not None:
        since = [today] * len(features.keys)
    k, seed = probabilities.shape[1], asked["seed"]
    found = Understood()
    if model is not None:
        answer = (model, clusters, probabilities)
        questions |= {"verbose": bool(model.verbose)}
        found = understand(features, *answer, seed, stages, folder=out, **questions)
    answers = (clusters, probabilities, truth, features.hashes, since)
    with stages.timed("writing"):
        runs.write_labels(out, features.keys, *answers, found.columns)
        runs.write_reference(out, found.reference)
        runs.write_insight(out, found.insight, found.hierarchy, found.map)
        runs.write_tables(out, features.failures, features.skipped, features.notes)
    metrics: dict[str, Any] = {
        "n_images": len(features.keys),
        "n_failures": len(features.failures),
        "n_warnings": len(features.notes),
        "n_clusters": k,
        "n_clusters_found": len(np.unique(clusters)),
        "losses": losses,
        "views_nearest_own": nearest_own(features.array),
    }
    metrics |= _scores(features, clusters, truth, k, seed, stages, others or {})
    metrics |= _taken(stages)
    record = _record(features, asked, device)
    runs.write_record(out, metrics, record | (about or {}))


def record_stages(out: Path, stages: Stages) -> None:
    """Note in metrics.json what came after it was written, as the report."""
    metrics = read_json(out / "metrics.json") or {}
    try:
        write_json(out / "metrics.json", metrics | _taken(stages))
    except OSError as error:
        raise runs.unwritable(out, error) from error


def _taken(stages: Stages) -> dict[str, Any]:
    peaks = {"peak_memory_mib": peak_memory_mib(), "stage_memory_mib": stages.peak_memory_mib}
    return {"seconds": stages.seconds, **peaks}


def _scores(
    features: Features,
    clusters: np.ndarray,
    truth: Sequence[str | None] | None,
    k: int,
    seed: int,
    stages: Stages,
    others: dict[str, np.ndarray],
) -> dict[str, Any]:
    if truth is None or not any(truth):
        return {}
    from mfavbs.metrics import score_known

    scores = score_known(truth, clusters)
    coverage = scores.pop("coverage")
    with stages.timed("k-means, for comparison"):
        others = {"k-means": kmeans(features.array, k, seed)} | others
    baselines = {name: score_known(truth, found) for name, found in others.items()}
    for scored in baselines.values():
        del scored["coverage"]
    return {"scores": scores, "coverage": coverage, "baselines": baselines}


def kmeans(features: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """The yardstick: k-means, best of 10 starts, on the clean views' l2-normalised features.

    Above 10,000 images the starts are of a sample of those, and the best one is gone on with on all
    of them, or on 100,000: as good, and it never takes longer than the run.
    """
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    def clean_views(rows: slice) -> np.ndarray:
        first: Any = (rows, *[0] * (features.ndim - 2))  # view 0, token 0
        return normalize(features[first].astype(np.float32), copy=False)

    every = -(-len(features) // _KMEANS_ROWS)
    clean = clean_views(slice(None, None, every))
    model = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed)
    n_sample = max(_KMEANS_SAMPLE, 10 * n_clusters)
    if len(clean) <= n_sample:
        return model.fit_predict(clean)
    sample = np.random.default_rng(seed).choice(len(clean), n_sample, replace=False)
    centres = model.fit(clean[sample]).cluster_centers_
    model = KMeans(n_clusters, init=centres, n_init=1, max_iter=50).fit(clean)
    if every == 1:
        return model.labels_
    parts = (slice(start, start + _PART) for start in range(0, len(features), _PART))
    return np.concatenate([model.predict(clean_views(part)) for part in parts])


def _source(source: dict[str, str]) -> dict[str, str]:
    """Where the images are, for a list with the folder that its paths are relative to."""
    if source.get("kind") != "list":
        return source
    return source | {"folder": os.path.dirname(source["location"]) or os.getcwd()}


def _record(features: Features, asked: dict[str, Any], device: str) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "scikit-learn")
    parameters = {name: value for name, value in asked.items() if name != "source"}
    return {
        "schema": runs.SCHEMA,
        "source": _source(features.source) | {"name": asked["source"]},
        "parameters": parameters,
        "encoder": features.encoder,
        "state": features.state,
        "device": device,
        "versions": {
            "python": platform.python_version(),
            "mfavbs": __version__,
            **{name: _version(name) for name in packages},
        },
        "created": now(),
    }


def _version(package: str) -> str | None:
    """None where it is not there, as an encoder's own package need not be for features."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def now() -> str:
    """The present time, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
