"""Run the command line, or a script, as a process: its exit code, its stdout, its stderr.

Each call is a process of its own, forked from a server that has imported the package once: the
imports take seconds, and there are many calls.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mfavbs.clustering", "open_clip", "timm"])
MFAVBS = "from mfavbs.cli import main\nmain()"


class Result(NamedTuple):
    code: int | None
    out: str
    err: str


def _run(
    script: str, arguments: list[str], folder: Path, logs: Path, first: Callable[[], None] | None
) -> None:
    os.setsid()  # a group of its own, to be ended as a terminal ends one
    # Its workers start as a user's do, and not by way of a server of their own.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["mfavbs", *arguments]
    if first is not None:
        first()
    exec(script, {"__name__": "__main__"})


def start(
    *arguments: object,
    folder: Path,
    script: str = MFAVBS,
    first: Callable[[], None] | None = None,
) -> ForkServerProcess:
    """Begin ``script`` with ``folder`` as the current one; there ``first`` is called before it."""
    logs = folder / ".logs"
    logs.mkdir(exist_ok=True)
    process = CONTEXT.Process(
        target=_run, args=(script, [str(a) for a in arguments], folder, logs, first)
    )
    process.start()
    return process


def ended(process: ForkServerProcess, folder: Path) -> Result:
    """What came of a process that was started in ``folder``."""
    process.join()
    logs = folder / ".logs"
    return Result(process.exitcode, (logs / "out").read_text(), (logs / "err").read_text())


def mfavbs(*arguments: object, folder: Path) -> Result:
    """Run ``mfavbs ARGUMENTS`` with ``folder`` as the current one."""
    return ended(start(*arguments, folder=folder), folder)
