"""A finished run brought up to date with a source that has changed, and back.

In: a run folder, and the features of its source as it is now. Out: the same run folder with labels
of all images that are there now; the former labels and network lie in ``previous``.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfavbs import runs
from mfavbs.continuing import keep_names
from mfavbs.errors import RunError
from mfavbs.features import SegmentedFeatures
from mfavbs.files import user_path, write_json
from mfavbs.locking import alone_in
from mfavbs.progress import Stages
from mfavbs.recording import now, record_run, record_stages
from mfavbs.report import write_page
from mfavbs.runs import Run, describe_changes, read_run, rows_in
from mfavbs.sources import Features
from mfavbs.training import fit_frozen

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering


def update_run(
    out: Path,
    features: Features,
    truth: Sequence[str | None] | None,
    asked: dict[str, Any],
    model: "MFAVBsClustering",
    how: str,
    stages: Stages,
    about: dict[str, Any],
    **questions: Any,
) -> None:
    """Make a run's next state whole beside the present one, then swap the two.

    To be called with the folder locked.

    Parameters
    ----------
    out
        The run folder, with a finished run.
    features
        Of its source as it is now.
    truth
        (n,) known labels, or None.
    asked
        Every parameter of the run, with its source.
    model
        Not fitted; its parameters are the run's.
    how
        ``"update"`` or ``"refit"``, as in :func:`mfavbs.cluster_images`.
    stages, about, **questions
        As in :func:`mfavbs.recording.record_run`.

    Raises
    ------
    RunError
        The run does not say which images it holds, as one of an earlier version.
    """
    before = read_run(out)
    if before.hashes is None or before.since is None or features.hashes is None:
        raise RunError(
            f"The run in {out} does not record the contents of its images, so it cannot be brought "
            "up to date: it is of features, or of an earlier version. Cluster again."
        )
    was = rows_in(before, features.keys, features.hashes)  # (n,) row, or -1
    staged = runs.stage(out, {"how": how, "state": features.state, "of": before.record["state"]})
    with stages.timed("training" if how == "refit" else "answering"):
        if how == "refit":
            fitted = model
            probabilities, clusters, losses = _fitted(model, features, before, was, staged, asked)
        else:
            fitted = _loaded(out, model)
            probabilities, clusters = _answered(fitted, features, before, was, out)
            losses = before.metrics.get("losses") or []
            shutil.copytree(out / runs.MODEL, staged / runs.MODEL, dirs_exist_ok=True)
    device = str(model.network_.device) if how == "refit" else before.record.get("device") or ""
    k = probabilities.shape[1]
    today = now()[:10]
    record_run(
        staged,
        features,
        fitted,
        clusters,
        probabilities,
        truth,
        asked,
        losses,
        device,
        stages,
        since=[before.since[row] if row >= 0 else today for row in was],
        about={**about, "created": before.record.get("created"), "updated": now(), "update": how},
        **questions,
    )
    changes = describe_changes(before, was, clusters, k)
    write_json(staged / runs.CHANGES, changes)
    # A person's name stays with a cluster that goes on; what an update answers, goes on.
    goes_on = changes["clusters"]["continued"] if how == "refit" else {c: c for c in range(k)}
    keep_names(before, goes_on, staged)
    with stages.timed("report"):
        write_page(staged, features.images)
    record_stages(staged, stages)
    (staged / runs.CHECKPOINT).unlink(missing_ok=True)
    runs.swap_in(out)


def go_back(run: str | Path) -> Run:
    """Return a run to the state before it was last updated, which then lies in ``previous``.

    Called again, it undoes what it did.

    Raises
    ------
    RunError
        There is no former state.
    """
    folder = user_path(run)
    if not runs.is_swapping(folder):
        read_run(folder)  # what is no run is not locked
    with alone_in(folder):
        if runs.finish_swap(folder) != runs.PREVIOUS:  # else that was what was asked for
            runs.go_back(folder)
    return read_run(folder)


def _loaded(out: Path, model: "MFAVBsClustering") -> "MFAVBsClustering":
    """The run's own model, where, within the memory and as talkative as ``model`` is to be."""
    fitted = type(model).load(out / runs.MODEL, model.device)
    return fitted.set_params(verbose=model.verbose, memory=model.memory)


def _answered(
    model: "MFAVBsClustering", features: Features, before: Run, was: np.ndarray, out: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) and clusters (n,): those there were, and the network's of the rest."""
    known, new = was >= 0, np.flatnonzero(was < 0)
    kept = runs.read_all_probabilities(out)  # (m, k)
    probabilities = np.empty((len(was), kept.shape[1]), np.float32)
    clusters = np.empty(len(was), np.int64)
    probabilities[known], clusters[known] = kept[was[known]], before.cluster[was[known]]
    if len(new):
        rows = SegmentedFeatures([features.array], np.zeros(len(new), np.int64), new)
        probabilities[new] = model.predict_proba(rows)  # read a part at a time
        clusters[new] = probabilities[new].argmax(1)
    return probabilities, clusters


def _fitted(
    model: "MFAVBsClustering",
    features: Features,
    before: Run,
    was: np.ndarray,
    staged: Path,
    asked: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    """Train anew and give each cluster the number of the one it continues."""
    from mfavbs.model import renumber

    fit_frozen(model, features, staged, asked)
    known = was >= 0
    k = model.probabilities_.shape[1]
    old = before.cluster[was[known]]
    numbers = runs.continue_numbers(old, model.labels_[known], before.metrics["n_clusters"], k)
    renumber(model, numbers)
    model.save(staged / runs.MODEL)
    return model.probabilities_, model.labels_, model.loss_history_
