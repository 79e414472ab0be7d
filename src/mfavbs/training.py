"""The model of a run: on the features as they are, or from pixels on, end to end.

In: what was asked for, the features of the source and, end to end, its images.
Out: a fitted model in the run folder; for new images, their probabilities (n, k).
"""

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfavbs import runs
from mfavbs.devices import pick_device
from mfavbs.duplicates import fit_one_of_each
from mfavbs.errors import MfavbsError, RunError, SourceError
from mfavbs.features import FeatureStore
from mfavbs.files import read_json
from mfavbs.memory import Memory
from mfavbs.model import Number
from mfavbs.progress import Stages
from mfavbs.sources import Features, OpenedSource

if TYPE_CHECKING:  # they import torch
    from mfavbs.features import StoredPixels
    from mfavbs.model import EndToEnd, MFAVBsClustering

FROZEN, END_TO_END = "frozen", "end-to-end"
TRAININGS = (FROZEN, END_TO_END)
RESOLUTION = 64
_STARTED_FROM = "frozen"  # folder in the model's, as `EndToEnd.save` writes it


class Trained(NamedTuple):
    """What a fit leaves beside the model.

    Attributes
    ----------
    looking
        The model that sees the features, of which the clusters are asked about; None without one.
    losses
        By epoch.
    others
        By name, labels (n,) that are not the run's.
    about
        More to tell.
    stages
        What the parts of the training on features took, where there was one.
    """

    looking: "MFAVBsClustering | None"
    losses: list[dict]
    others: dict[str, np.ndarray]
    about: dict[str, Any]
    stages: Stages | None = None


def asked_training(
    train: str, resolution: int | None, anchor: bool, grid: int, drop_copies: bool = False
) -> dict[str, Any]:
    """How a run is trained, as it is recorded.

    Raises
    ------
    SourceError
        There is no such training, or something does not go with it.
    """
    if train not in TRAININGS:
        raise SourceError(f"train={train!r} should be {' or '.join(TRAININGS)}")
    if train == FROZEN:
        if resolution is not None or not anchor:
            raise SourceError(
                f"a resolution, and going without an anchor, are for train={END_TO_END}; give "
                "that, or leave them out"
            )
        return {"train": train, "drop_copies": drop_copies}
    if drop_copies:
        raise SourceError(
            f"drop_copies is for train={FROZEN}; leave it out, or the copies out of the source"
        )
    if grid:
        raise SourceError(
            f"expected one token of the encoder a view with train={END_TO_END}, which has the "
            f"patches of its own, got grid={grid}; leave it out"
        )
    resolution = RESOLUTION if resolution is None else int(resolution)
    about = {"resolution": resolution, "anchor": bool(anchor)}
    return {"train": train, "drop_copies": False, **about}


def check_trainable(train: str, opened: OpenedSource, later: str | None) -> None:
    """Refuse to train from pixels what has none, or what was trained so a second time in place.

    Raises
    ------
    SourceError
        The source is features.
    RunError
        The run is to be updated.
    """
    if train == FROZEN:
        return
    if opened.images is None:
        raise SourceError(
            f"expected images with train={END_TO_END}, got {opened.identity}; give what these "
            f"features are of, or train={FROZEN}"
        )
    if later:
        raise RunError(
            f"A run of train={END_TO_END} cannot be brought up to date in place. `mfavbs predict` "
            "answers new images with its network, and overwrite=True makes the run anew."
        )


def features_asked(asked: dict[str, Any]) -> dict[str, Any]:
    """The parameters by which the run's features are made.

    Without an anchor they only say which images there are: their clean view is enough.
    """
    return asked if asked.get("anchor", True) else asked | {"n_views": 1, "augment": "none"}


def checked_model(
    n_clusters: Number,
    asked: dict[str, Any],
    augment: str,
    memory: Memory = None,
    **parameters: Any,
) -> "MFAVBsClustering | EndToEnd":
    """A model whose parameters are found wrong now, and not when the images are encoded."""
    from mfavbs.model import EndToEnd, MFAVBsClustering, check_memory

    model: Any
    if asked["train"] == FROZEN:
        model = MFAVBsClustering(n_clusters, memory=memory, **parameters)
    else:
        about = {"image_size": asked["resolution"], "anchor": asked["anchor"], "augment": augment}
        if not (isinstance(n_clusters, int) or asked["anchor"]):
            raise SourceError(
                f"n_clusters={n_clusters!r} is found by an encoder's features; without an anchor, "
                "give the number of clusters."
            )
        # What is to be found is found for the frozen run that it starts from.
        k = n_clusters if isinstance(n_clusters, int) else None
        model = EndToEnd(n_clusters=k, **about, **parameters)
    try:
        model._validate_params()
        if asked["train"] == FROZEN:
            check_memory(model)
    except ValueError as error:  # scikit-learn's own text names parameter, range and value
        raise MfavbsError(str(error)) from error
    if asked["train"] == END_TO_END and pick_device(parameters["device"]).type == "cpu":
        warnings.warn(
            "There is no GPU here: some thousands of images take hours from pixels, and minutes "
            f"with train={FROZEN}, the default.",
            stacklevel=3,
        )
    return model


def frozen_parameters(model: Any) -> dict[str, Any]:
    """Parameters of the run on features that a model is, or starts from."""
    if not hasattr(model, "frozen"):
        return model.get_params(deep=False)
    shared = ("n_neighbors", "n_attention_heads", "dim", "device", "random_state", "verbose")
    return {name: getattr(model, name) for name in shared}


def parameters_of(model: Any) -> dict[str, Any]:
    """What an interrupted run must agree on of a model, as JSON has it."""
    # Where it is computed is nothing of that; the rest is recorded under other names.
    elsewhere = (
        "random_state",
        "verbose",
        "device",
        "memory",
        "frozen",
        "anchor_widths",
        "image_size",
    )
    found = model.get_params(deep=False)
    return {name: value for name, value in found.items() if name not in elsewhere}


def fit(
    model: Any, features: Features, out: Path, asked: dict[str, Any], verbose: bool = True
) -> Trained:
    """Train the model on what was opened; interrupted, the same call goes on.

    Parameters
    ----------
    model
        From :func:`checked_model`.
    features
        Of the run.
    out
        Its folder.
    asked
        Every parameter of the run.
    verbose
        Show progress on stderr.
    """
    if asked["train"] == FROZEN:
        about = fit_frozen(model, features, out, asked)
        return Trained(model, model.loss_history_, {}, about, model.stages_)
    store = FeatureStore.open(out / runs.FEATURES)
    others, told, frozen = {}, None, None
    if asked["anchor"]:
        frozen = _frozen(model, features, out / runs.MODEL / _STARTED_FROM, asked["n_clusters"])
        others, told = {"frozen": frozen.predict(features.array)}, features.array
        model.set_params(frozen=frozen, anchor_widths=list(store.blocks))
    stored = _pixels(store, features, out, asked, verbose)
    model.fit(*stored, told, checkpoint=out / runs.CHECKPOINT)
    losses = [{k: v for k, v in epoch.items() if k != "head"} for epoch in model.history_]
    return Trained(frozen, losses, others, {"best_epoch": model.best_epoch_})


def fit_frozen(
    model: "MFAVBsClustering", features: Features, out: Path, asked: dict[str, Any]
) -> dict[str, Any]:
    """Train on the features of all images, or of one of each group of copies; more to tell."""
    if not asked.get("drop_copies"):
        model.fit(features.array, checkpoint=out / runs.CHECKPOINT)
        return {}
    n = fit_one_of_each(model, features, asked["seed"], out / runs.CHECKPOINT)
    return {"copies_dropped": n}


def answer(
    model: Any, features: Features, out: Path, asked: dict[str, Any], verbose: bool = True
) -> np.ndarray:
    """Probabilities (n, k) of new images, whose features lie in ``out``, by a run's model.

    Parameters
    ----------
    model
        From :func:`load`.
    features, out, verbose
        As for :func:`fit`.
    asked
        Every parameter of the run.
    """
    if asked.get("train", FROZEN) == FROZEN:
        return model.predict_proba(features.array)
    stored = _pixels(FeatureStore.open(out / runs.FEATURES), features, out, asked, verbose)
    found = model.predict_proba(*stored, features.array if asked["anchor"] else None)
    del stored
    shutil.rmtree(out / runs.PIXELS)
    return found


def load(
    folder: Path, asked: dict[str, Any], device: str, memory: Memory = None
) -> "MFAVBsClustering | EndToEnd":
    """The model of a finished run, from its folder; on features it keeps to a bound of memory."""
    from mfavbs.model import EndToEnd, MFAVBsClustering

    if asked.get("train", FROZEN) != FROZEN:
        return EndToEnd.load(folder, device)
    return MFAVBsClustering.load(folder, device).set_params(memory=memory)


def load_looking(
    folder: Path, asked: dict[str, Any], device: str = "auto", memory: Memory = None
) -> "MFAVBsClustering | None":
    """Of a finished run the model that sees features, as :class:`Trained` has it."""
    from mfavbs.model import MFAVBsClustering

    if asked.get("train", FROZEN) != FROZEN:
        if not asked["anchor"]:
            return None
        folder = folder / _STARTED_FROM
    return MFAVBsClustering.load(folder, device).set_params(memory=memory)


def _frozen(model: Any, features: Features, folder: Path, n_clusters: Number) -> "MFAVBsClustering":
    """The run on the features that the one from pixels starts from, made once."""
    from mfavbs.model import MFAVBsClustering

    checkpoint = folder / runs.CHECKPOINT
    try:
        frozen = MFAVBsClustering.load(folder, model.device)
    except RunError:  # there is none, or a kill has left a part of it
        folder.mkdir(parents=True, exist_ok=True)
        frozen = MFAVBsClustering(n_clusters, **frozen_parameters(model))
        frozen.fit(features.array, checkpoint=checkpoint)
        frozen.save(folder)
    checkpoint.unlink(missing_ok=True)
    return frozen


def _pixels(
    store: FeatureStore, features: Features, out: Path, asked: dict[str, Any], verbose: bool
) -> "StoredPixels":
    """The images as small squares, in a folder of their own while they are needed."""
    from mfavbs.features import framing_of, store_pixels
    from mfavbs.images import Views

    assert features.images is not None, "what check_trainable has seen"
    size, folder = asked["resolution"], out / runs.PIXELS
    made = read_json(folder / "pixels.json")
    if made is not None and made.get("state") != store.state:
        shutil.rmtree(folder)  # of the images that there were when it was killed
    views = None
    if not asked["anchor"]:  # no feature is of them: they are drawn at the size that is looked at
        drawn = {"augment": asked["augment"], "framing": framing_of(store)}
        views = Views(size, asked["n_views"], asked["seed"], **drawn)
    return store_pixels(
        store,
        features.images,
        folder,
        edge=2 * size,
        image_size=size,
        views=views,
        verbose=verbose,
    )
