"""The whole flow: a source of images in, a run folder out.

In: a folder, a list, a tar, an array of images; a feature store; or ready-made features (n, …, d).
Out: clusters (n,) of the readable images, in a folder that can be looked at, kept and applied.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

# torch and scikit-learn are imported where they are needed: what can be refused without them is
# refused at once, and not after the seconds that they take.
from mfavbs import runs
from mfavbs.devices import check_device
from mfavbs.encoders import DEFAULT_ENCODER, Names, Sizes, Weights, check_encoder, encoder_asked
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.files import user_path
from mfavbs.images import IMAGE_MEMORY, Range, checked_range, views_of
from mfavbs.launching import leave_to_first_process
from mfavbs.locking import alone_in, check_alone
from mfavbs.progress import timed
from mfavbs.recording import record_run
from mfavbs.report import write_page
from mfavbs.runs import Run, read_run
from mfavbs.sources import (
    Features,
    OpenedSource,
    Source,
    open_source,
)
from mfavbs.truth import check_early, known_labels, said_of
from mfavbs.updating import update_run

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering


def cluster_images(
    source: Source,
    n_clusters: int,
    *,
    out: str | Path,
    encoder: Names = DEFAULT_ENCODER,
    weights: Weights = None,
    image_size: Sizes = None,
    grid: int = 0,
    fit: str | None = None,
    n_views: int = 5,
    augment: str = "default",
    exclude: Sequence[str] = (),
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    labels: Sequence[str | None] | None = None,
    labels_from_folders: bool = False,
    overwrite: bool = False,
    update: bool = False,
    refit: bool = False,
    cache: str | Path | None = None,
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
    n_views, augment
        Views of every image, the clean one included, and how far the others go from it, as in
        :func:`mfavbs.embed`.
    exclude
        Patterns of files and folders to leave out, as in :func:`mfavbs.open_images`.
    seed
        Of the views and of the training.
    value_range, image_memory
        As in :func:`mfavbs.embed`; not looked at where the source is features.
    labels
        (n,) known labels of the images, in the source's order, None or empty where there is
        none. They are scored against, and never trained on.
    labels_from_folders
        Take the sub-folders for those labels.
    overwrite
        Replace the finished run in ``out``.
    update, refit
        Bring the finished run in ``out`` up to date with its source, which has changed. ``update``
        answers the new images with the run's network and keeps every label that was there;
        ``refit`` trains anew, and each cluster keeps the number of the one that it continues. The
        former labels and network stay in ``previous/``, see :func:`mfavbs.updating.go_back`.
    cache
        Folder of features that runs share, as in :func:`mfavbs.embed`.
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
    n_views = views_of(augment, n_views)
    _check_words(n_clusters, estimator)
    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit)
    check_device(device)
    checked = checked_range(value_range)
    opened = open_source(source, exclude)
    check_early(opened, n_clusters, labels, labels_from_folders)
    given = {
        **estimator,
        "n_clusters": n_clusters,
        **encoder_asked(encoder, weights, image_size),
        "grid": grid,
        "fit": fit,
        "n_views": n_views,
        "augment": augment,
        "exclude": list(exclude),
        "seed": seed,
        "value_range": list(checked) if isinstance(checked, tuple) else checked,
        "image_memory": image_memory,
        "labels": said_of(labels, labels_from_folders),
        "source": opened.identity,
    }
    # numpy's scalars as Python's own: the record is JSON.
    given = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    if runs.is_swapping(out):
        with alone_in(out):
            runs.finish_swap(out)
    runs.check_folder(out, given, overwrite=overwrite)
    later = "refit" if refit else "update" if update else None
    if later and not (out / "run.json").exists():
        raise RunError(f"{out} holds no finished run to bring up to date; leave {later}= out.")
    if not overwrite and _nothing_to_do(out, opened, list(estimator), later):
        warnings.warn(f"Nothing to do: {out} already holds this run.", stacklevel=2)
        return read_run(out)
    check_alone(out)
    model = _checked_model(
        n_clusters, random_state=seed, device=device, verbose=verbose, **estimator
    )
    # Where it is computed is not what an interrupted run must agree on.
    elsewhere = ("random_state", "verbose", "device")
    asked = {k: v for k, v in model.get_params().items() if k not in elsewhere} | given
    runs.check_folder(out, asked, overwrite=overwrite)
    loaded = opened.load_encoder(asked)  # before a folder is begun for its features
    with alone_in(out):
        _cluster(
            out,
            opened,
            model,
            asked,
            {"given": sorted(estimator)},
            overwrite=overwrite,
            later=later,
            truth=lambda features: known_labels(features, opened, labels, labels_from_folders),
            encoder=loaded,
            cache=cache,
            n_workers=n_workers,
            verbose=verbose,
            device=device,
        )
    return read_run(out)


def _check_words(n_clusters: int, estimator: dict[str, Any]) -> None:
    if n_clusters < 2:
        raise SourceError(f"n_clusters={n_clusters} should be >= 2.")
    if "random_state" in estimator:
        raise SourceError(
            "random_state is called seed here, as it is of the views too; give "
            f"seed={estimator['random_state']!r}."
        )


def _cluster(
    out: Path,
    opened: OpenedSource,
    model: "MFAVBsClustering",
    asked: dict[str, Any],
    about: dict[str, Any],
    *,
    overwrite: bool,
    later: str | None,
    truth: Callable[[Features], Sequence[str | None] | None],
    **how: Any,
) -> None:
    """Begin, go on with, finish or update the run in a folder that is locked."""
    features_of = opened.store.path.resolve() if opened.store else None
    own = features_of == (out / runs.FEATURES).resolve()
    done = runs.begin_run(out, asked, overwrite=overwrite, keep_features=own)
    if done and not later:
        change = opened.changes(out / runs.FEATURES, runs.read_record(out).get("state"))
        if change:
            raise _changed(out, change)
    seconds: dict[str, float] = {}
    begun = (out / runs.CHECKPOINT).exists()
    try:
        with timed(seconds, "features"):
            features = opened.features(out / runs.FEATURES, parameters=asked, as_begun=begun, **how)
    except SourceError:  # nothing was readable: leave nothing behind
        if not done and not (out / runs.FEATURES).exists():
            runs.tidy_run(out)
        raise
    known = truth(features)
    if not done:
        _train(model, features, known, out, asked, seconds, about)
    elif later:
        try:
            update_run(out, features, known, asked, model, later, seconds, about)
        except (OSError, SafetensorError) as error:  # the run is what it was
            raise runs.unwritable(out, error) from error
    if not done or not later:
        write_page(out, features.images)
    runs.tidy_run(out)


def _train(
    model: "MFAVBsClustering",
    features: Features,
    truth: Sequence[str | None] | None,
    out: Path,
    asked: dict[str, Any],
    seconds: dict[str, float],
    about: dict[str, Any],
) -> None:
    """Fit ``model`` and write everything of the run but its report."""
    with timed(seconds, "training"):
        model.fit(features.array, checkpoint=out / runs.CHECKPOINT)
    try:
        model.save(out / runs.MODEL)
    except (OSError, SafetensorError) as error:
        raise runs.unwritable(out, error) from error
    record_run(
        out,
        features,
        model,
        model.labels_,
        model.probabilities_,
        truth,
        asked,
        model.loss_history_,
        str(model.network_.device),
        seconds,
        about=about,
    )


def _nothing_to_do(
    out: Path, opened: OpenedSource, given: Sequence[str], later: str | None
) -> bool:
    """Whether ``out`` holds this very run, of images that have not changed; needs no torch.

    ``given`` are the estimator's parameters that were named: all others have their defaults.
    """
    if not (out / "run.json").exists() or not (out / "report.html").exists():
        return False
    record = runs.read_record(out)
    if record.get("given") != sorted(given) or later == "refit":
        return False
    change = opened.changes(out / runs.FEATURES, record.get("state"))
    if change and later is None:
        raise _changed(out, change)
    return not change


def _changed(out: Path, change: str) -> RunError:
    return RunError(
        f"The source has changed since the run in {out} was made of it: {change}. update=True "
        "answers what is new with the run's network and keeps every label, refit=True trains "
        "anew and keeps the numbers of the clusters, overwrite=True replaces the run."
    )


def _checked_model(n_clusters: int, **parameters: Any) -> "MFAVBsClustering":
    """A model whose parameters are found wrong now, and not when the images are encoded."""
    from mfavbs.model import MFAVBsClustering

    model = MFAVBsClustering(n_clusters, **parameters)
    try:
        model._validate_params()
    except ValueError as error:  # scikit-learn's own text names parameter, range and value
        raise MfavbsError(str(error)) from error
    return model
