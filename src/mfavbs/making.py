"""A run made in its folder: begun, gone on with, finished or brought up to date.

In: a source that is opened, a model that is checked, every parameter. Out: the run folder, whole.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mfavbs import runs
from mfavbs.announcing import Announcement
from mfavbs.continuing import go_on
from mfavbs.errors import RunError, SourceError
from mfavbs.progress import Stages
from mfavbs.recording import record_run, record_stages
from mfavbs.report import write_page
from mfavbs.runs import Run
from mfavbs.sources import Features, OpenedSource
from mfavbs.suggesting import check_width
from mfavbs.training import END_TO_END, features_asked, fit
from mfavbs.updating import update_run


def make_run(
    out: Path,
    opened: OpenedSource,
    model: Any,
    asked: dict[str, Any],
    about: dict[str, Any],
    questions: dict[str, Any],
    before: Run | None,
    *,
    overwrite: bool,
    later: str | None,
    truth: Callable[[Features], Sequence[str | None] | None],
    **how: Any,
) -> None:
    """Begin, go on with, finish or update the run in a folder that is locked.

    Parameters
    ----------
    out
        The run folder.
    opened, model, asked, about
        The source, a model that is not fitted, every parameter, and more for run.json.
    questions
        What the clusters are named by, and which questions are not asked of them.
    before
        An earlier run that this one is numbered like, or None.
    overwrite
        Replace a finished run.
    later
        ``"update"`` or ``"refit"`` of a finished run, or None.
    truth
        From the features, known labels (n,) or None.
    **how
        As the source's ``features`` takes it.
    """
    features_of = opened.store.path.resolve() if opened.store else None
    own = features_of == (out / runs.FEATURES).resolve()
    done = runs.begin_run(out, asked, overwrite=overwrite, keep_features=own)
    if done and not later:
        change = opened.changes(out / runs.FEATURES, runs.read_record(out).get("state"))
        if change:
            raise source_changed(out, change, asked["train"])
    stages = Stages()
    begun = (out / runs.CHECKPOINT).exists() or (not done and (out / runs.MODEL).exists())
    announce = Announcement(
        *(len(opened.keys), model, asked, questions["skip"]),
        stored=opened.images is not None,
        show=how["verbose"] and not done,
    )
    try:
        with stages.timed("features"):
            features = opened.features(
                out / runs.FEATURES,
                parameters=features_asked(asked),
                as_begun=begun,
                foretell=announce,
                **how,
            )
    except SourceError:  # nothing was readable: leave nothing behind
        if not done and not (out / runs.FEATURES).exists():
            runs.tidy_run(out)
        raise
    known = truth(features)
    check_width(questions["names"], features)
    if not done:
        announce(0.0, features.array.shape[1:])
        _train(model, features, known, out, asked, stages, about, questions, before)
    elif later:
        try:
            update_run(out, features, known, asked, model, later, stages, about, **questions)
        except (OSError, SafetensorError) as error:  # the run is what it was
            raise runs.unwritable(out, error) from error
    if not done or not later:
        with stages.timed("report"):
            write_page(out, features.images)
    if not done:
        record_stages(out, stages)
    runs.tidy_run(out)


def _train(
    model: Any,
    features: Features,
    truth: Sequence[str | None] | None,
    out: Path,
    asked: dict[str, Any],
    stages: Stages,
    about: dict[str, Any],
    questions: dict[str, Any],
    before: Run | None,
) -> None:
    """Fit ``model`` and write everything of the run but its report."""
    try:
        with stages.timed("training"):
            trained = fit(model, features, out, asked, model.verbose)
        if trained.stages is not None:
            stages.add("training", trained.stages)
        if before is not None:
            go_on(model, features, before, out)
        model.save(out / runs.MODEL)
    except (OSError, SafetensorError) as error:
        raise runs.unwritable(out, error) from error
    record_run(
        out,
        features,
        trained.looking,
        model.labels_,
        model.probabilities_,
        truth,
        asked,
        trained.losses,
        str(model.network_.device),
        stages,
        about=about | trained.about,
        others=trained.others,
        **questions,
    )


def source_changed(out: Path, change: str, train: str | None) -> RunError:
    """What to say of a source that is not any more what a finished run was made of."""
    ways = (
        "`mfavbs predict` answers what is new with the run's network"
        if train == END_TO_END
        else "update=True answers what is new with the run's network and keeps every label, "
        "refit=True trains anew and keeps the numbers of the clusters"
    )
    return RunError(
        f"The source has changed since the run in {out} was made of it: {change}. {ways}, "
        "overwrite=True replaces the run."
    )
