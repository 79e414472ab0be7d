"""Run the command line as a process: its exit code, its stdout, its stderr.

Each call is a process of its own, forked from a server that has imported the package once: the
imports take seconds, and there are many calls.
"""

import multiprocessing
import os
import sys
from pathlib import Path
from typing import NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mfavbs.clustering", "open_clip", "timm"])


class Result(NamedTuple):
    code: int | None
    out: str
    err: str


def _run(arguments: list[str], folder: Path, logs: Path) -> None:
    os.chdir(folder)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["mfavbs", *arguments]
    from mfavbs.cli import main

    main()


def mfavbs(*arguments: object, folder: Path) -> Result:
    """Run ``mfavbs ARGUMENTS`` with ``folder`` as the current one."""
    logs = folder / ".logs"
    logs.mkdir(exist_ok=True)
    process = CONTEXT.Process(target=_run, args=([str(a) for a in arguments], folder, logs))
    process.start()
    process.join()
    return Result(process.exitcode, (logs / "out").read_text(), (logs / "err").read_text())
