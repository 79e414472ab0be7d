"""The whole flow: a source of images in, a run folder out.

In: a folder, a list, a tar, an array of images; a feature store; or ready-made features (n, …, d).
Out: clusters (n,) of the readable images, in a folder that can be looked at, kept and applied.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# torch and scikit-learn are imported where they are needed: what can be refused without them is
# refused at once, and not after the seconds that they take.
from mfavbs import runs
from mfavbs.continuing import earlier_run
from mfavbs.cutting import cut_run, is_run
from mfavbs.devices import check_device
from mfavbs.encoders import DEFAULT_ENCODER, Names, Sizes, Weights, check_encoder, encoder_asked
from mfavbs.engines import check_engine, engine_of
from mfavbs.errors import RunError, SourceError
from mfavbs.files import user_path
from mfavbs.images import IMAGE_MEMORY, Range, checked_range, views_of
from mfavbs.launching import together
from mfavbs.locking import alone_in, check_alone
from mfavbs.making import make_run, source_changed
from mfavbs.memory import Memory, checked_memory
from mfavbs.model import Number, checked_number
from mfavbs.runs import Run, read_run
from mfavbs.sources import (
    OpenedSource,
    Source,
    open_source,
)
from mfavbs.suggesting import wish
from mfavbs.training import (
    END_TO_END,
    FROZEN,
    asked_training,
    check_trainable,
    checked_model,
    parameters_of,
)
from mfavbs.truth import check_early, known_labels, said_of


@together()
def cluster_images(
    source: Source,
    n_clusters: Number | list[int],
    *,
    out: str | Path,
    encoder: Names = DEFAULT_ENCODER,
    weights: Weights = None,
    image_size: Sizes = None,
    grid: int = 0,
    fit: str | None = None,
    train: str = FROZEN,
    resolution: int | None = None,
    anchor: bool = True,
    n_views: int = 5,
    augment: str = "default",
    exclude: Sequence[str] = (),
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    labels: Sequence[str | None] | None = None,
    labels_from_folders: bool = False,
    drop_copies: bool = False,
    overwrite: bool = False,
    update: bool = False,
    refit: bool = False,
    like: str | Path | None = None,
    vocabulary: str | Path | None = None,
    vocabulary_vectors: str | Path | np.ndarray | None = None,
    with_map: bool = True,
    cache: str | Path | None = None,
    n_workers: int | None = None,
    device: str = "auto",
    memory: Memory = None,
    engine: str = "local",
    ray_address: str | None = None,
    verbose: bool = True,
    **estimator: Any,
) -> Run:
    """Cluster images without labels and write a run folder.

    Parameters
    ----------
    source
        A folder (searched to any depth), a ``.tar``, a text file of paths, a list of paths, an
        array of images (n, h, w[, 3]), images already opened (:func:`mfavbs.open_images`,
        :func:`mfavbs.open_dataset`), a feature store, or a ``.npy`` of features (n, …, d). Of
        the folder of a finished run, its tree of clusters is cut at another number and nothing is
        trained; to train anew, give its ``features`` folder.
    n_clusters
        k >= 2; or ``"auto"``, or a range as ``(5, 60)``, to have it found: a few seconds' work,
        see :func:`mfavbs.model.tell_number`.
    out
        The run folder. Interrupted, the same call goes on with it.
    encoder, weights, image_size, grid, fit
        As in :func:`mfavbs.load_encoder`; not looked at where the source is features.
    train
        ``"frozen"`` trains on the encoder's features. ``"end-to-end"`` goes on from there with the
        pixels, see :class:`mfavbs.model.EndToEnd`: for a GPU, and images of a kind that the encoder
        has not seen.
    resolution
        Edge in pixels of the views that end-to-end training sees: a multiple of 16 from 64, which
        is the default, or of 4 below.
    anchor
        Whether end-to-end training is told the encoder's features. Without, it needs no encoder,
        starts at random, and keeps its last epoch.
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
    drop_copies
        Train on one image of each group of copies (``Run.copies``), the first; the others get its
        cluster.
    overwrite
        Replace the finished run in ``out``.
    update, refit
        Bring the finished run in ``out`` up to date with its source, which has changed. ``update``
        answers the new images with the run's network and keeps every label that was there;
        ``refit`` trains anew, and each cluster keeps the number of the one that it continues. The
        former labels and network stay in ``previous/``, see :func:`mfavbs.updating.go_back`.
    like
        An earlier run of some of these images, of another k, seed or encoder say: each cluster gets
        the number of the one there that it continues, and the name that a person gave it.
        changes.json, and the report, tell what grew, split, merged, came and went.
    vocabulary, vocabulary_vectors
        What clusters may be called by: a text file with a word on each line, ``"nouns"`` for those
        of WordNet, or ``"off"``; and, for an encoder that is no CLIP, a ``.npy`` or an array with a
        vector for each line, in the encoder's space. By default a CLIP encoder takes the nouns
        (20,099 texts, encoded once for its weights), any other the words of paths and the dates of
        pictures. A name is a suggestion, and decides nothing.
    with_map
        Place all images on a plane, for the report.
    cache
        Folder of features that runs share, as in :func:`mfavbs.embed`.
    n_workers
        Processes that decode and augment.
    device
        ``auto``, ``cpu``, ``cuda``, ``mps``.
    memory
        What training on features, its answers, insight and report may hold in memory, beside the
        libraries (half a GiB): bytes, or a size as ``"8G"``; None is half of what the machine, a
        container or a job allows. What does not fit lies in files in ``out`` that have no name and
        are gone with the process.
    engine
        ``"ray"`` has the images read and encoded by the processes of a Ray cluster; training stays
        here. The features are the same, and an interrupted run may go on with the other engine.
    ray_address
        ``HOST:PORT`` of the head of that cluster, or ``"auto"`` for the one that this machine is a
        node of. None starts a Ray on this machine, of ``n_workers`` processes, and ends it.
    verbose
        Show progress on stderr.
    **estimator
        Further parameters of :class:`mfavbs.MFAVBsClustering`, or of
        :class:`mfavbs.model.EndToEnd` with ``train="end-to-end"``.

    Returns
    -------
    Run
        The finished run, read back from ``out``.

    Raises
    ------
    MfavbsError
        Whatever was wrong with the source, the encoder, the store or the folder.
    """
    out = user_path(out)
    number = checked_number(n_clusters)
    n_views = views_of(augment, n_views)
    _check_words(estimator)
    trained = asked_training(train, resolution, anchor, grid, drop_copies)
    if train == END_TO_END and estimator.get("epochs", 0) is None:
        del estimator["epochs"]
    if not anchor:
        encoder, weights, image_size = "pixels", None, None
    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit)
    check_device(device)
    checked_memory(memory)
    check_engine(engine, ray_address, n_workers)
    checked = checked_range(value_range)
    names = wish(vocabulary, vocabulary_vectors, encoder_asked(encoder, weights, None)["weights"])
    if is_run(source) and not (update or refit) and out.resolve() != user_path(source).resolve():
        if labels is not None or labels_from_folders:
            raise SourceError("A run that is cut keeps its known labels; drop labels=.")
        return cut_run(
            source,
            number,
            out=out,
            overwrite=overwrite,
            device=device,
            verbose=verbose,
            names=names,
            skip=() if with_map else ("map",),
        )
    later = "refit" if refit else "update" if update else None
    opened = open_source(source, exclude)
    check_early(opened, number, labels, labels_from_folders)
    given = {
        **estimator,
        "n_clusters": list(number) if isinstance(number, tuple) else number,
        **encoder_asked(encoder, weights, image_size),
        **trained,
        "grid": grid,
        "fit": fit,
        "n_views": n_views,
        "augment": augment,
        "exclude": list(exclude),
        "seed": seed,
        "value_range": list(checked) if isinstance(checked, tuple) else checked,
        "image_memory": image_memory,
        "labels": said_of(labels, labels_from_folders),
        "like": None if like is None else str(user_path(like).resolve()),
        "source": opened.identity,
    }
    # numpy's scalars as Python's own: the record is JSON.
    given = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    if runs.is_swapping(out):
        with alone_in(out):
            runs.finish_swap(out)
    before = earlier_run(like, out, train, later)
    runs.check_folder(out, given, overwrite=overwrite)
    check_trainable(train, opened, later)
    if later and not (out / "run.json").exists():
        raise RunError(f"{out} holds no finished run to bring up to date; leave {later}= out.")
    if not overwrite and _nothing_to_do(out, opened, list(estimator), later):
        hint = "" if vocabulary is None else " `mfavbs report RUN --vocabulary` names it anew."
        warnings.warn(f"Nothing to do: {out} already holds this run.{hint}", stacklevel=2)
        return read_run(out)
    check_alone(out)
    model = checked_model(
        number,
        trained,
        augment,
        memory,
        random_state=seed,
        device=device,
        verbose=verbose,
        **estimator,
    )
    asked = parameters_of(model) | given
    runs.check_folder(out, asked, overwrite=overwrite)
    loaded = opened.load_encoder(asked)  # before a folder is begun for its features
    with alone_in(out):
        make_run(
            out,
            opened,
            model,
            asked,
            {"given": sorted(estimator)},
            {"names": names, "skip": () if with_map else ("map",)},
            before,
            overwrite=overwrite,
            later=later,
            truth=lambda features: known_labels(features, opened, labels, labels_from_folders),
            encoder=loaded,
            cache=cache,
            n_workers=n_workers,
            verbose=verbose,
            device=device,
            engine=engine_of(engine, ray_address),
        )
    return read_run(out)


def _check_words(estimator: dict[str, Any]) -> None:
    if "random_state" in estimator:
        raise SourceError(
            "random_state is called seed here, as it is of the views too; give "
            f"seed={estimator['random_state']!r}."
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
        raise source_changed(out, change, record["parameters"].get("train"))
    return not change
