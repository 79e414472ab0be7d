"""Another run of a finished one: its tree of clusters cut at another number. Nothing is trained.

In: a run folder, a number of clusters. Out: a run folder with so many, that predicts as any.
"""

import warnings
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from safetensors import SafetensorError

from mfavbs import runs
from mfavbs.errors import MfavbsError, RunError
from mfavbs.features import is_store
from mfavbs.files import user_path
from mfavbs.locking import alone_in
from mfavbs.model import Number
from mfavbs.progress import Stages
from mfavbs.recording import record_run
from mfavbs.report import write_page
from mfavbs.runs import Run, read_run
from mfavbs.sources import Features, open_source
from mfavbs.training import FROZEN, load_looking
from mfavbs.urls import is_url


def is_run(source: Any) -> TypeGuard[str | Path]:
    """Whether a source is the folder of a finished run."""
    if not isinstance(source, str | Path) or is_url(str(source)):
        return False
    return (user_path(source) / "run.json").is_file()


def cut_run(
    source: str | Path,
    n_clusters: Number,
    *,
    out: Path,
    overwrite: bool = False,
    device: str = "auto",
    verbose: bool = True,
    **questions: Any,
) -> Run:
    """Write a run with the clusters of another, joined or split.

    Parameters
    ----------
    source
        The run folder.
    n_clusters
        From 2 to the leaves of its tree; ``"auto"`` or a range takes what the run's own curve has
        most evidence for.
    out
        The new run folder.
    overwrite
        Replace the finished run in ``out``.
    device, verbose
        As in :func:`mfavbs.cluster_images`.
    **questions
        As in :func:`mfavbs.understanding.understand`.

    Raises
    ------
    RunError
        The run has no tree, not so many leaves, or its features are not there any more.
    """
    run = read_run(user_path(source))
    k = n_clusters if isinstance(n_clusters, int) else _most_evidence(run, n_clusters)
    cut = run.cut(k)
    features, place = features_of(run)
    if features is None or features.keys != run.paths:
        raise RunError(
            f"The features that {run.folder} was made of are not there any more, or of other "
            f"images by now. Run.cut({k}) gives the clusters of its images; cluster again for a "
            "run of them."
        )
    asked = dict(run.record["parameters"])
    asked |= {"n_clusters": k, "train": FROZEN, "cut_from": str(run.folder.resolve())}
    asked = {name: value for name, value in asked.items() if name != "device"}
    asked["source"] = f"features {place if is_url(place) else Path(place).resolve()}"
    runs.check_folder(out, asked, overwrite=overwrite)
    if (out / "run.json").exists() and not overwrite:
        warnings.warn(f"Nothing to do: {out} already holds this run.", stacklevel=3)
        return read_run(out)
    fitted = load_looking(run.folder / runs.MODEL, run.record["parameters"], device)
    if fitted is None:
        raise RunError(f"The network of {run.folder} was told no features; it cannot be cut.")
    fitted.set_params(verbose=verbose)
    with alone_in(out):
        runs.begin_run(out, asked, overwrite=overwrite, keep_features=False)
        _write(run, features, fitted, cut, k, out, asked, questions)
    return read_run(out)


def _write(
    run: Run,
    features: Features,
    fitted: Any,
    cut: np.ndarray,
    k: int,
    out: Path,
    asked: dict[str, Any],
    questions: dict[str, Any],
) -> None:
    from mfavbs.model import with_clusters

    stages = Stages()
    with stages.timed("cutting"):
        model = with_clusters(fitted, features.array, cut, k)
    try:
        model.save(out / runs.MODEL)
    except (OSError, SafetensorError) as error:
        raise runs.unwritable(out, error) from error
    truth = [run.label_of(row) for row in range(len(run.label))] if run.names else None
    about = {"moved": int((model.labels_ != cut).sum())}
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
        stages,
        since=run.since,
        about=about,
        **questions,
    )
    write_page(out, features.images)
    runs.tidy_run(out)


def _most_evidence(run: Run, asked: Number) -> int:
    """What the run's own curve has most evidence for, within a range."""
    told = (run.insight or {}).get("k", {})
    if "curve" not in told:
        raise RunError(f"{run.folder} says nothing of how many clusters there are; give a number.")
    numbers, evidence = (np.array(told["curve"][name]) for name in ("numbers", "evidence"))
    low, high = asked if isinstance(asked, tuple) else (numbers[0], numbers[-1])
    inside = (numbers >= low) & (numbers <= high)
    if not inside.any():
        raise RunError(
            f"{run.folder} knows of {numbers[0]} to {numbers[-1]} clusters; expected a range that "
            f"has some of these, got n_clusters={low}:{high}."
        )
    return int(numbers[np.where(inside, evidence, -1).argmax()])


def features_of(run: Run) -> tuple[Features | None, str]:
    """The features that a run was made of, and where they lie; None where they do not."""
    source: dict[str, Any] = run.record["source"]
    name = str(source.get("name") or "")
    stores = [str(run.folder / runs.FEATURES), name.removeprefix("features ")]
    places = [store for store in stores if is_store(store)]
    if source.get("kind") == "features":
        places.append(str(source.get("location") or ""))
    try:
        for place in filter(None, places):
            return open_source(place).features(Path(place), None, {}), place
    except (MfavbsError, OSError):
        return None, ""
    return None, ""
