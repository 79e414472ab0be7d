"""A new clustering that goes on with the numbers and names of an earlier run.

In: an earlier run, and a model fitted to images of which the run has some. Out: the model, its
clusters renumbered; in the run folder names.json and changes.json.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from mfavbs import runs
from mfavbs.errors import RunError
from mfavbs.files import user_path, write_json
from mfavbs.runs import Run, describe_changes, read_run, rows_in
from mfavbs.sources import Features
from mfavbs.training import FROZEN

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering


def earlier_run(like: str | Path | None, out: Path, train: str, later: str | None) -> Run | None:
    """The run that a new one is to be numbered like, found wrong before anything is encoded.

    Raises
    ------
    RunError
        There is no run, it is the one that is made, or the new one cannot be numbered.
    """
    if like is None:
        return None
    folder = user_path(like)
    if later:
        raise RunError(f"{later}= goes on with the run in {out} itself; drop like=, or {later}=")
    if train != FROZEN:
        raise RunError(f"like= numbers runs of train={FROZEN}, got train={train}; drop one of them")
    if folder.resolve() == out.resolve():
        raise RunError(
            f"like={folder} is the run that is to be made; give another out=, or refit= to make it "
            "anew in place"
        )
    return read_run(folder)


def go_on(model: "MFAVBsClustering", features: Features, before: Run, out: Path) -> None:
    """Number a fitted model's clusters like those of a run, with which it shares images.

    Parameters
    ----------
    model
        Fitted to the features; its clusters get other numbers, in place.
    features
        Of the new run.
    before
        The earlier one.
    out
        The new run's folder; it gets changes.json, and the names that a person gave to clusters
        that go on.
    """
    from mfavbs.model import renumber

    was = rows_in(before, features.keys, features.hashes)  # (n,)
    known = was >= 0
    if not known.any():
        warnings.warn(
            f"No image is in {before.folder} as well: the clusters have numbers of their own.",
            stacklevel=2,
        )
        return
    k = model.probabilities_.shape[1]
    old = before.cluster[was[known]]
    numbers = runs.continue_numbers(old, model.labels_[known], before.metrics["n_clusters"], k)
    renumber(model, numbers)
    changes = describe_changes(before, was, model.labels_, k)
    write_json(out / runs.CHANGES, {"like": str(before.folder.resolve()), **changes})
    keep_names(before, changes["clusters"]["continued"], out)


def keep_names(before: Run, goes_on: dict[int, int], out: Path) -> None:
    """Give a person's names to the clusters that those they named go on as."""
    names = {goes_on[cluster]: name for cluster, name in before.named.items() if cluster in goes_on}
    if names:
        runs.write_names(out, names)
