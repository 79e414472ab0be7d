"""A run's next state, made whole beside the present one, and put in its place.

In: a run folder, and in its folder ``next`` the files of a finished run. Out: these in the run
folder, the former ones in ``previous``. Cut off at any moment, :func:`finish_swap` goes on.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mfavbs.errors import RunError
from mfavbs.files import read_json, write_json
from mfavbs.runs.writing import CHANGES, FILES, MODEL, unwritable

NEXT, PREVIOUS = "next", "previous"
_SWAP = "swap.json"  # while it stands: where the next state is whole, and how far the swap is
_AWAY = "previous.new"
# run.json goes first and comes last: in between the folder is no finished run.
_NAMES = (*FILES, CHANGES, MODEL)


def stage(folder: Path, about: dict[str, Any]) -> Path:
    """The folder for a run's next state; what an interrupted call about the same left is kept."""
    staged = folder / NEXT
    try:
        if staged.exists() and read_json(staged / "about.json") != about:
            shutil.rmtree(staged)
        staged.mkdir(exist_ok=True)
        write_json(staged / "about.json", about)
    except OSError as error:
        raise unwritable(folder, error) from error
    return staged


def swap_in(folder: Path, source: str = NEXT) -> None:
    """Put the state that is whole in the folder ``source`` in place of the present one."""
    try:
        write_json(folder / _SWAP, {"source": source, "phase": "out"})
    except OSError as error:
        raise unwritable(folder, error) from error
    finish_swap(folder)


def is_swapping(folder: Path) -> bool:
    """Whether a swap was cut off there."""
    return (folder / _SWAP).exists()


def finish_swap(folder: Path) -> str | None:
    """Bring a swap to its end, wherever it was cut off: its source; None where there is none.

    Each phase can be begun again: it only moves what is still in its old place.
    """
    swap = read_json(folder / _SWAP)
    if swap is None:
        return None
    staged, away = folder / swap["source"], folder / _AWAY
    try:
        if swap["phase"] == "out":
            away.mkdir(exist_ok=True)
            _move(_NAMES, folder, away)
            swap |= {"phase": "in"}
            write_json(folder / _SWAP, swap)
        if swap["phase"] == "in":
            _move(_NAMES[::-1], staged, folder)
            shutil.rmtree(staged, ignore_errors=True)
            swap |= {"phase": "tidy"}
            write_json(folder / _SWAP, swap)
        if away.exists():
            if (folder / PREVIOUS).exists():
                shutil.rmtree(folder / PREVIOUS)
            os.replace(away, folder / PREVIOUS)
        (folder / _SWAP).unlink()
    except OSError as error:
        raise unwritable(folder, error) from error
    return swap["source"]


def _move(names: Sequence[str], old: Path, new: Path) -> None:
    for name in names:
        if (old / name).exists():
            os.replace(old / name, new / name)


def go_back(folder: Path) -> None:
    """Return to the state before the last one, which then lies in ``previous``.

    Raises
    ------
    RunError
        There is none.
    """
    if not (folder / PREVIOUS / "run.json").is_file():
        raise RunError(
            f"{folder} has no former state to go back to: it was never brought up to date."
        )
    swap_in(folder, PREVIOUS)
