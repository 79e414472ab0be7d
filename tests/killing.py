"""End a process at one of its touches of a folder: every state of the disk that a kill can leave.

A touch is what changes the folder: a file opened for writing, renamed or removed, a folder made or
removed. The process is ended just before it: touch 3 is the same moment on any machine, however
busy.
"""

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from command_line import MFAVBS, Result, ended, start

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_HANGS = 300  # seconds; far beyond what anything waited for here takes on a busy machine


def run_until(
    touch: int,
    *arguments: object,
    folder: Path,
    watched: Path,
    script: str = MFAVBS,
    how: int = signal.SIGKILL,
) -> Result:
    """Run a script with ``folder`` as the current one, up to a touch of the folder ``watched``.

    SIGINT reaches its workers too, as a terminal has it; after SIGKILL they must find out
    themselves. Either way none of them may live on.
    """
    first = functools.partial(_watch, watched, touch, how)
    process = start(*arguments, folder=folder, script=script, first=first)
    result = ended(process, folder)
    assert process.pid is not None
    wait_until(lambda group=process.pid: not members(group))
    return result


def count_touches(*arguments: object, folder: Path, watched: Path, script: str = MFAVBS) -> int:
    """How often a run that nothing ends touches the folder ``watched``."""
    result = run_until(0, *arguments, folder=folder, watched=watched, script=script)
    assert result.code == 0, result.err
    return _tally(watched).stat().st_size


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _HANGS
    while not condition():
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.02)


def members(group: int) -> list[int]:
    """Processes of a group that are still there, zombies left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _tally(watched: Path) -> Path:
    return watched.with_name(f"{watched.name}.touches")


def _watch(watched: Path, at: int, how: int) -> None:
    """In the process itself: count its touches from now on, a byte for each."""
    main, inside = os.getpid(), os.path.join(watched, "")
    tally = os.open(_tally(watched), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, arguments: tuple) -> None:
        if os.getpid() != main or not _changes(event, arguments, inside):
            return
        os.write(tally, b".")
        if os.fstat(tally).st_size == at:
            os.kill(main if how == signal.SIGKILL else -main, how)

    sys.addaudithook(hook)


def _changes(event: str, arguments: tuple, inside: str) -> bool:
    if event == "open":  # path, mode, flags
        if not arguments[2] & _WRITING:
            return False
        arguments = arguments[:1]
    elif event not in _CHANGES:
        return False
    elif arguments[-1] >= 0:  # relative to a folder that is open: a whole tree is being removed
        return True
    named = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
    return any(os.path.join(os.path.abspath(path), "").startswith(inside) for path in named)
