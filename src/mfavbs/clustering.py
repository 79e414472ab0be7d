"""The whole flow: a source of images in, a run folder out.

In: a folder, a list, a tar, an array of images; a feature store; or ready-made features (n, …, d).
Out: clusters (n,) of the readable images, in a folder that can be looked at, kept and applied.
"""

import hashlib
import importlib.metadata
import os
import platform
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

# torch and scikit-learn are imported where they are needed: what can be refused without them is
# refused at once, and not after the seconds that they take.
from mfavbs import __version__, runs
from mfavbs.devices import check_device, peak_memory_mib
from mfavbs.encoders import DEFAULT_ENCODER, check_encoder
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.files import user_path
from mfavbs.images import IMAGE_MEMORY, Range, checked_range
from mfavbs.launching import leave_to_first_process
from mfavbs.locking import alone_in
from mfavbs.report import write_page
from mfavbs.runs import SCHEMA, Run, read_run
from mfavbs.sources import (
    Features,
    Source,
    check_early,
    known_labels,
    open_source,
)

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering

_KMEANS_STARTS = 10
# 50,000 images, one thread: 22 s and the inertia of all starts on all of them, which take 137 s.
_KMEANS_SAMPLE = 10_000


def cluster_images(
    source: Source,
    n_clusters: int,
    *,
    out: str | Path,
    encoder: str = DEFAULT_ENCODER,
    weights: str | Path | None = None,
    image_size: int | None = None,
    grid: int = 0,
    fit: str | None = None,
    n_views: int = 5,
    exclude: Sequence[str] = (),
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    labels: Sequence[str | None] | None = None,
    labels_from_folders: bool = False,
    overwrite: bool = False,
    n_workers: int | None = None,
    device: str = "auto",
    verbose: bool = True,
    **estimator: Any,
) -> Run:
    """Cluster images without labels and write a run folder.

    Parameters
    ----------
    source
        A folder (searched to any depth), a ``.tar``, a text file of paths, a list of paths, an
        array of images (n, h, w[, 3]), images already opened (:func:`mfavbs.open_images`,
        :func:`mfavbs.open_dataset`), a feature store, or a ``.npy`` of features (n, …, d).
    n_clusters
        k >= 2.
    out
        The run folder. Interrupted, the same call goes on with it.
    encoder, weights, image_size, grid, fit
        As in :func:`mfavbs.load_encoder`; not looked at where the source is features.
    n_views
        Views of every image, the clean one included.
    exclude
        Patterns of files and folders to leave out, as in :func:`mfavbs.open_images`.
    seed
        Of the views and of the training.
    value_range, image_memory
        As in :func:`mfavbs.features.embed`; not looked at where the source is features.
    labels
        (n,) known labels of the images, in the source's order, None or empty where there is
        none. They are scored against, and never trained on.
    labels_from_folders
        Take the sub-folders for those labels.
    overwrite
        Replace the finished run in ``out``.
    n_workers
        Processes that decode and augment.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    verbose
        Show progress on stderr.
    **estimator
        Further parameters of :class:`mfavbs.MFAVBsClustering`.

    Returns
    -------
    Run
        The finished run, read back from ``out``.

    Raises
    ------
    MfavbsError
        Whatever was wrong with the source, the encoder, the store or the folder.
    """
    leave_to_first_process()
    out = user_path(out)
    n_clusters = int(n_clusters)
    if n_clusters < 2:
        raise SourceError(f"n_clusters={n_clusters} should be >= 2.")
    if n_views < 1:
        raise SourceError(f"n_views={n_views} should be >= 1")
    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit)
    check_device(device)
    if "random_state" in estimator:
        raise SourceError(
            "random_state is called seed here, as it is of the views too; give "
            f"seed={estimator['random_state']!r}."
        )
    checked = checked_range(value_range)
    opened = open_source(source, exclude)
    check_early(opened, n_clusters, labels, labels_from_folders)
    given = {
        **estimator,
        "n_clusters": n_clusters,
        "encoder": encoder,
        "weights": None if weights is None else str(user_path(weights).resolve()),
        "image_size": image_size,
        "grid": grid,
        "fit": fit,
        "n_views": n_views,
        "exclude": list(exclude),
        "seed": seed,
        "value_range": list(checked) if isinstance(checked, tuple) else checked,
        "image_memory": image_memory,
        "labels": _said_of(labels, labels_from_folders),
        "source": opened.identity,
    }
    # numpy's scalars as Python's own: the record is JSON.
    given = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    runs.check_folder(out, given, overwrite=overwrite)
    model = _checked_model(
        n_clusters, random_state=seed, device=device, verbose=verbose, **estimator
    )
    # Where it is computed is not what an interrupted run must agree on.
    elsewhere = ("random_state", "verbose", "device")
    asked = {k: v for k, v in model.get_params().items() if k not in elsewhere} | given
    runs.check_folder(out, asked, overwrite=overwrite)
    loaded = opened.load_encoder(asked)  # before a folder is begun for its features
    features_of = opened.store.path.resolve() if opened.store else None
    with alone_in(out):
        done = runs.begin_run(
            out,
            asked,
            overwrite=overwrite,
            keep_features=features_of == (out / runs.FEATURES).resolve(),
        )
        seconds: dict[str, float] = {}
        with _timed(seconds, "features"):
            features = opened.features(
                out / runs.FEATURES,
                loaded,
                asked,
                n_workers=n_workers,
                verbose=verbose,
                device=device,
            )
        if done:
            _check_unchanged(out, features)
        else:
            truth = known_labels(features, opened, labels, labels_from_folders)
            _train(model, features, truth, out, asked, seconds)
        if done and (out / "report.html").exists():
            warnings.warn(f"Nothing to do: {out} already holds this run.", stacklevel=2)
        else:
            write_page(out, features.images)
        runs.tidy_run(out)
    return read_run(out)


def _train(
    model: "MFAVBsClustering",
    features: Features,
    truth: Sequence[str | None] | None,
    out: Path,
    asked: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    """Fit ``model`` and write everything of the run but its report."""
    with _timed(seconds, "training"):
        model.fit(features.array, checkpoint=out / runs.CHECKPOINT)
    with _timed(seconds, "writing"):
        try:
            model.save(out / runs.MODEL)
        except (OSError, SafetensorError) as error:
            raise runs.unwritable(out, error) from error
        runs.write_labels(
            out,
            features.keys,
            model.labels_,
            model.probabilities_,
            truth,
            features.failures,
            features.skipped,
            features.notes,
        )
    metrics = _metrics(model, features, truth, asked["seed"], seconds)
    device = str(model.network_.device)
    runs.write_record(out, metrics, _record(features, asked, device))


def _check_unchanged(out: Path, features: Features) -> None:
    """Whether a finished run is still one of these images: then there is nothing to do."""
    run = read_run(out)
    if features.keys != run.paths or features.encoder != run.record.get("encoder"):
        raise RunError(
            f"{out} already holds a run, of {len(run.paths)} images that have changed since (now "
            f"{len(features.keys)}). Give another out=, or overwrite=True to replace it."
        )


def _said_of(labels: Sequence[str | None] | None, from_folders: bool) -> str | None:
    """Which labels a run is scored against, in words by which it is recognised."""
    if labels is None:
        return "folders" if from_folders else None
    digest = hashlib.blake2b("\0".join(map(str, labels)).encode("utf-8", "backslashreplace"))
    return f"given ({len(labels)}, {digest.hexdigest()[:8]})"


def _checked_model(n_clusters: int, **parameters: Any) -> "MFAVBsClustering":
    """A model whose parameters are found wrong now, and not when the images are encoded."""
    from mfavbs.model import MFAVBsClustering

    model = MFAVBsClustering(n_clusters, **parameters)
    try:
        model._validate_params()
    except ValueError as error:  # scikit-learn's own text names parameter, range and value
        raise MfavbsError(str(error)) from error
    return model


def _metrics(
    model: "MFAVBsClustering",
    features: Features,
    truth: Sequence[str | None] | None,
    seed: int,
    seconds: dict[str, float],
) -> dict[str, Any]:
    metrics: dict[str, Any] = {
        "n_images": len(features.keys),
        "n_failures": len(features.failures),
        "n_warnings": len(features.notes),
        "n_clusters": model.n_clusters,
        "n_clusters_found": len(np.unique(model.labels_)),
        "losses": model.loss_history_,
    }
    if truth is not None and any(truth):
        from mfavbs.metrics import score_known

        metrics["scores"] = score_known(truth, model.labels_)
        metrics["coverage"] = metrics["scores"].pop("coverage")
        with _timed(seconds, "k-means, for comparison"):
            clusters = kmeans(features.array, model.n_clusters, seed)
        yardstick = score_known(truth, clusters)
        yardstick.pop("coverage")
        metrics["baselines"] = {"k-means": yardstick}
    metrics["seconds"] = seconds
    metrics["peak_memory_mib"] = peak_memory_mib()
    return metrics


def kmeans(features: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """The yardstick: k-means, best of 10 starts, on the clean views' l2-normalised features.

    Above 10,000 images the starts are of a sample of those, and the best one is gone on with on all
    of them: as good, and it never takes longer than the run.
    """
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    clean = features.reshape(len(features), -1, features.shape[-1])[:, 0].astype(np.float32)
    clean = normalize(clean, copy=False)
    model = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed)
    n_sample = max(_KMEANS_SAMPLE, 10 * n_clusters)
    if len(clean) <= n_sample:
        return model.fit_predict(clean)
    sample = np.random.default_rng(seed).choice(len(clean), n_sample, replace=False)
    centres = model.fit(clean[sample]).cluster_centers_
    return KMeans(n_clusters, init=centres, n_init=1, max_iter=50).fit_predict(clean)


def _source(source: dict[str, str]) -> dict[str, str]:
    """Where the images are, for a list with the folder that its paths are relative to."""
    if source.get("kind") != "list":
        return source
    return source | {"folder": os.path.dirname(source["location"]) or os.getcwd()}


def _record(features: Features, asked: dict[str, Any], device: str) -> dict[str, Any]:
    packages = ("torch", "torchvision", "timm", "open_clip_torch", "scikit-learn")
    return {
        "schema": SCHEMA,
        "source": _source(features.source) | {"name": asked["source"]},
        "parameters": {name: value for name, value in asked.items() if name != "source"},
        "encoder": features.encoder,
        "device": device,
        "versions": {
            "python": platform.python_version(),
            "mfavbs": __version__,
            **{name: importlib.metadata.version(name) for name in packages},
        },
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)
