"""What a run lacks, because it is of an earlier version, made afterwards.

In: a finished run whose features are still there. Out: the same run with all that is asked of one.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfavbs import runs
from mfavbs.errors import MfavbsError
from mfavbs.features import is_store
from mfavbs.files import user_path
from mfavbs.images import Images, reopen_images
from mfavbs.locking import alone_in
from mfavbs.runs import Run, read_run
from mfavbs.sources import Features, open_source
from mfavbs.training import load_looking
from mfavbs.understanding import QUESTIONS, Understood, understand

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering


def complete_run(
    run: str | Path, images: Images | None = None, *, verbose: bool = False
) -> str | None:
    """Ask of a finished run what has not been asked of it yet, and write the answers into it.

    Parameters
    ----------
    run
        A run folder.
    images
        Where its images lie now, if not where they did.
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
    missing = [name for name in QUESTIONS if name not in (insight or {}).get("asked", ())]
    if not missing:
        return None
    features = _features_of(read)
    why = "the features are not there any more" if features is None else None
    if features is not None and features.keys != read.paths:
        why = "the features are of other images by now"
    model = None
    if features is not None and why is None:
        model = load_looking(folder / runs.MODEL, read.record["parameters"])
        why = "its network was told no features of an encoder"
    if features is None or model is None:
        return f"The run says nothing of {', '.join(missing)}: {why}. Cluster again for it."
    with alone_in(folder):
        _complete(read, model, _with_images(features, images), missing, verbose)
    return None


def _complete(
    run: Run,
    model: "MFAVBsClustering",
    features: Features,
    missing: list[str],
    verbose: bool,
) -> None:
    probabilities = runs.read_all_probabilities(run.folder)
    before = Understood(runs.read_columns(run.folder), run.insight or {}, run.hierarchy, run.map)
    found = understand(
        features,
        model,
        run.cluster,
        probabilities,
        run.record["parameters"].get("seed", 0),
        {},
        only=missing,
        before=before,
        verbose=verbose,
    )
    truth = [run.label_of(row) for row in range(len(run.label))] if run.names else None
    answers = (run.cluster, probabilities, truth, run.hashes, run.since)
    runs.write_labels(run.folder, run.paths, *answers, found.columns)
    runs.write_insight(run.folder, found.insight, found.hierarchy, found.map)


def _features_of(run: Run) -> Features | None:
    """The features that a run was made of, where they lie; None where they do not."""
    source: dict[str, Any] = run.record["source"]
    name = str(source.get("name") or "")
    stores = [run.folder / runs.FEATURES, Path(name.removeprefix("features "))]
    places = [str(store) for store in stores if is_store(store)]
    if source.get("kind") == "features":
        places.append(str(source.get("location") or ""))
    try:
        for place in filter(None, places):
            opened = open_source(place)
            return opened.features(Path(place), None, {})
    except (MfavbsError, OSError):
        return None
    return None


def _with_images(features: Features, images: Images | None) -> Features:
    """With the images that features were made of, where they can be opened."""
    try:
        return replace(features, images=images or reopen_images(features.source, features.keys))
    except MfavbsError:
        return features
