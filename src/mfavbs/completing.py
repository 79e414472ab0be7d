"""What a run lacks, because it is of an earlier version, made afterwards.

In: a finished run whose features are still there. Out: the same run with all that is asked of one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfavbs import runs
from mfavbs.cutting import features_of
from mfavbs.errors import MfavbsError, RunError
from mfavbs.files import user_path
from mfavbs.images import Images, reopen_images
from mfavbs.locking import alone_in
from mfavbs.progress import Stages
from mfavbs.runs import Run, read_run
from mfavbs.sources import Features
from mfavbs.suggesting import Wish, check_width, wish
from mfavbs.training import load_looking
from mfavbs.understanding import QUESTIONS, Understood, understand

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering


def complete_run(
    run: str | Path,
    images: Images | None = None,
    *,
    vocabulary: str | Path | None = None,
    vocabulary_vectors: str | Path | np.ndarray | None = None,
    verbose: bool = False,
) -> str | None:
    """Ask of a finished run what has not been asked of it yet, and write the answers into it.

    Parameters
    ----------
    run
        A run folder.
    images
        Where its images lie now, if not where they did.
    vocabulary, vocabulary_vectors
        As in :func:`mfavbs.cluster_images`; given, the clusters are named anew.
    verbose
        Show progress on stderr.

    Returns
    -------
    str or None
        What the run lacks and why that cannot be made, in one sentence; None where it lacks
        nothing any more.

    Raises
    ------
    RunError
        The folder is no run, is damaged or cannot be written to.
    """
    folder = user_path(run)
    read = read_run(folder)
    insight = read.insight
    names = wish(vocabulary, vocabulary_vectors, read.record["parameters"].get("weights"))
    again = {"names"} if vocabulary is not None else set()
    if not runs.read_reference(folder):
        again |= {"trust", "membership"}
    asked = {*(insight or {}).get("asked", ())} - again
    missing = [name for name in QUESTIONS if name not in asked]
    if not missing:
        return None
    features, _ = features_of(read)
    why = "the features are not there any more" if features is None else None
    if features is not None and features.keys != read.paths:
        why = "the features are of other images by now"
    model = None
    if features is not None and why is None:
        model = load_looking(folder / runs.MODEL, read.record["parameters"])
        if model is None:
            return f"The run says nothing of {', '.join(missing)}: no encoder's features are there."
    if features is None or model is None:
        return f"The run says nothing of {', '.join(missing)}: {why}. Cluster again for it."
    check_width(names, features)
    with alone_in(folder):
        _complete(read, model, _with_images(features, images), missing, names, verbose)
    return None


def _complete(
    run: Run,
    model: "MFAVBsClustering",
    features: Features,
    missing: list[str],
    names: Wish,
    verbose: bool,
) -> None:
    probabilities = runs.read_all_probabilities(run.folder)
    before = Understood(
        runs.read_columns(run.folder),
        run.insight or {},
        run.hierarchy,
        run.map,
        runs.read_reference(run.folder),
    )
    found = understand(
        features,
        model,
        run.cluster,
        probabilities,
        run.record["parameters"].get("seed", 0),
        Stages(),
        only=missing,
        before=before,
        names=names,
        verbose=verbose,
    )
    truth = [run.label_of(row) for row in range(len(run.label))] if run.names else None
    answers = (run.cluster, probabilities, truth, run.hashes, run.since)
    runs.write_labels(run.folder, run.paths, *answers, found.columns)
    runs.write_reference(run.folder, found.reference)
    runs.write_insight(run.folder, found.insight, found.hierarchy, found.map)


def _with_images(features: Features, images: Images | None) -> Features:
    """With the images that features were made of, where they can be opened."""
    try:
        return replace(features, images=images or reopen_images(features.source, features.keys))
    except MfavbsError:
        return features


def name_clusters(folder: str | Path, said: Sequence[str]) -> None:
    """Add names to those that were given in a run folder.

    Parameters
    ----------
    folder
        The run folder.
    said
        ``CLUSTER=NAME`` each; without a name, one that was given is taken away.

    Raises
    ------
    RunError
        It is no run, a text is of another form or there is no such cluster. Nothing is written.
    """
    run = read_run(user_path(folder))
    names, k = runs.read_names(run.folder), run.metrics["n_clusters"]
    for text in said:
        number, equals, name = text.partition("=")
        if not equals or not number.strip().isdecimal() or int(number) >= k:
            raise RunError(
                f"expected the name of a cluster as CLUSTER=NAME, with one of 0 to {k - 1}, got "
                f"{text!r}"
            )
        names[int(number)] = " ".join(name.split())
    runs.write_names(run.folder, names)
