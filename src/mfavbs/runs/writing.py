"""The run folder: how it is begun, gone on with, and written.

In: the clusters of n images and all that is known of how they came about.
Out: the files that :mod:`mfavbs.runs.reading` reads.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mfavbs.errors import RunError
from mfavbs.files import (
    PARTIAL,
    holds_only,
    write_json,
    write_reasons,
)
from mfavbs.runs.naming import NAMES
from mfavbs.runs.reading import read_record

# All that a run writes, and so all that overwriting one may remove; run.json is written last.
FILES = (
    *("run.json", "labels.csv", "labels.parquet", "failures.csv", "skipped.csv"),
    "warnings.csv",
    *("metrics.json", "thumbnails.parquet", "report.html"),
    *("insight.json", "hierarchy.json", "map.parquet", NAMES),
    "reference.safetensors",
)
CHANGES = "changes.json"  # what became of the clusters and images when the run was updated
REFERENCE = "reference.safetensors"  # what new images are compared with
UNFINISHED = "unfinished.json"  # the parameters of a run under way
CHECKPOINT = "checkpoint.pt"
FEATURES = "features"
PIXELS = "pixels"  # beside them, while they are trained on
MODEL = "model"
_CLEARING = "replaces a finished run"


def begin_run(
    folder: Path,
    parameters: dict[str, Any],
    *,
    overwrite: bool = False,
    keep_features: bool = False,
) -> bool:
    """Make ``folder`` ready for a run, or go on with one that was interrupted there.

    To be called with the folder locked, see :func:`mfavbs.locking.alone_in`.

    Parameters
    ----------
    folder
        The run folder.
    parameters
        Of the run, with its ``source``: what an interrupted run must agree on to be gone on with.
    overwrite
        Replace a finished run.
    keep_features
        Keep ``features/``: they are this run's input.

    Returns
    -------
    bool
        Whether this very run is finished, and nothing of the folder was touched.

    Raises
    ------
    RunError
        See :func:`check_folder`.
    """
    parameters = json.loads(json.dumps(parameters))  # as they are read back
    try:
        finished, begun, clearing = _check(folder, parameters, overwrite)
        if finished and not overwrite:
            return True
        if finished or clearing:
            # While this note stands, what is still there is of the run that is being replaced.
            write_json(folder / UNFINISHED, parameters | {_CLEARING: True})
            former = ("next", "previous", MODEL, PIXELS)
            _clear(folder, former if keep_features else (*former, FEATURES))
        elif begun:
            changed = [name for name in parameters if begun.get(name) != parameters[name]]
            if set(changed) - {"labels"}:
                warnings.warn(
                    f"{', '.join(changed)} changed since the run in {folder} was interrupted: "
                    "its training begins anew.",
                    stacklevel=3,
                )
                _clear(folder, (MODEL, PIXELS))
        write_json(folder / UNFINISHED, parameters)
    except OSError as error:
        raise unwritable(folder, error) from error
    return False


def check_folder(folder: Path, parameters: dict[str, Any], *, overwrite: bool = False) -> None:
    """Refuse to run in ``folder``, before anything is written there.

    ``parameters`` may be those alone that were given, while the defaults of others are not known.

    Raises
    ------
    RunError
        If the folder holds another finished run and ``overwrite`` is false, an unfinished one of
        another source, or files that are no run's. Nothing of anybody else's is ever removed.
    """
    _check(folder, json.loads(json.dumps(parameters)), overwrite)


def _check(
    folder: Path, parameters: dict[str, Any], overwrite: bool
) -> tuple[bool, dict[str, Any] | None, bool]:
    """Whether a run is finished there, what was begun, whether an old run was being cleared."""
    begun = _unfinished(folder)
    clearing = bool(begun and begun.pop(_CLEARING, False))
    try:
        finished = (folder / "run.json").exists()
        if finished:
            asked = asked_of(read_record(folder))  # refuses what another program calls run.json
            names = [name for name in parameters if asked.get(name) != parameters[name]]
            if not overwrite and (clearing or names):
                raise RunError(
                    f"{folder} already holds a run{_other(asked, parameters, names)}. Give "
                    "another out=, or overwrite=True to replace it."
                )
        elif begun is None and not holds_only(folder, [UNFINISHED]):
            raise RunError(
                f"{folder} exists and is not a run folder, so nothing is written into it. "
                "Give another out=."
            )
        elif begun and begun["source"] != parameters["source"]:
            raise RunError(
                f"{folder} holds an unfinished run of {begun['source']}, this one is of "
                f"{parameters['source']}. Give another out=, or remove the folder."
            )
    except OSError as error:
        raise unwritable(folder, error) from error
    return finished, begun, clearing


def _other(before: dict[str, Any], now: dict[str, Any], names: list[str]) -> str:
    if not names:
        return ""
    made = ", ".join(f"{name}={before.get(name)!r}" for name in names)
    asked = ", ".join(f"{name}={now[name]!r}" for name in names)
    return f", made with {made}; now {asked} is asked for"


def asked_of(record: dict[str, Any]) -> dict[str, Any]:
    """What was asked for when a finished run was begun, as given to :func:`begin_run`."""
    # Where it was computed decides nothing.
    parameters = {name: value for name, value in record["parameters"].items() if name != "device"}
    _before_there_was_a_choice(parameters)
    return parameters | {"source": record["source"].get("name")}


def _unfinished(folder: Path) -> dict[str, Any] | None:
    """Parameters of the interrupted run in ``folder``; None where there is none of ours."""
    try:
        begun = json.loads((folder / UNFINISHED).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(begun, dict) or not {"n_clusters", "encoder", "source"} <= begun.keys():
        return None
    _before_there_was_a_choice(begun)
    return begun


def _before_there_was_a_choice(parameters: dict[str, Any]) -> None:
    parameters.setdefault("augment", "default")
    parameters.setdefault("train", "frozen")
    parameters.setdefault("drop_copies", False)


def _clear(folder: Path, folders: tuple[str, ...]) -> None:
    for name in folders:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (CHECKPOINT, CHANGES, *reversed(FILES)):
        (folder / (name + PARTIAL)).unlink(missing_ok=True)
        (folder / name).unlink(missing_ok=True)


def write_tables(
    folder: Path,
    failures: Sequence[tuple[str, str]],
    skipped: Sequence[tuple[str, str]],
    notes: Sequence[tuple[str, str]],
) -> None:
    """Write (path, reason) tables: failures.csv, skipped.csv and warnings.csv.

    Parameters
    ----------
    folder
        The run folder.
    failures
        What could not be read.
    skipped
        What was left out of the source.
    notes
        What was read though something was wrong with it.
    """
    try:
        write_reasons(folder / "failures.csv", failures)
        write_reasons(folder / "skipped.csv", skipped)
        write_reasons(folder / "warnings.csv", notes)
    except OSError as error:
        raise unwritable(folder, error) from error


def write_record(folder: Path, metrics: dict[str, Any], record: dict[str, Any]) -> None:
    """Write metrics.json, then run.json, which makes the run a finished one."""
    try:
        write_json(folder / "metrics.json", metrics)
        write_json(folder / "run.json", record)
    except OSError as error:
        raise unwritable(folder, error) from error


def tidy_run(folder: Path) -> None:
    """Remove what a finished run needs no more."""
    try:
        shutil.rmtree(folder / PIXELS, ignore_errors=True)
        for name in (CHECKPOINT, UNFINISHED):
            for path in (folder / (name + PARTIAL), folder / name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: Exception) -> RunError:
    """What to say when a file of ``folder`` could not be written."""
    reason = getattr(error, "strerror", None) or error
    return RunError(
        f"The run folder {folder} cannot be written: {reason}. What is finished "
        "stays good: make room or choose another out=, and run the same command again."
    )
