"""Run the command line as a process that is killed, or has no room left, at a file operation.

As ``killing.py``, for full disks and for syncing and files that are not Python's as well. In: a
command, the folder it writes to, the number of an operation. Out: how it ended, what it did until
then. Counted is what changes the folder: files opened for writing, folders made,
names changed and removed, and syncing; in the command's own process, not in its workers.
"""

import errno
import functools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from command_line import Result, ended, mfavbs, start
from image_files import COLOURS, paint

from mfavbs.locking import LOCK

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What needs room; without any left a name can still be removed.
NEED_ROOM = {"open": True, "os.mkdir": True, "os.rename": True, "os.fsync": True, "save": True}
NEED_ROOM |= {"os.remove": False, "os.rmdir": False}


class Cut(NamedTuple):
    """A command that was cut off before operation ``at``, from 0; None lets it end."""

    result: Result
    operations: list[str]


def cut(arguments: tuple, folder: Path, out: Path, at: int | None, how: str = "kill") -> Cut:
    """Run ``mfavbs ARGUMENTS`` in ``folder``, cut off at an operation in ``out``.

    ``how`` is ``kill`` or ``full``: from there on there is no room on the disk.
    """
    log = folder / ".logs" / "operations"
    first = functools.partial(_cut, log, out, at, how)
    result = ended(start(*arguments, folder=folder, first=first), folder)
    return Cut(result, log.read_text().splitlines())


def _cut(operations: Path, out: Path, at: int | None, how: str) -> None:
    log = os.open(operations, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    me, root, count = os.getpid(), os.path.abspath(out), 0

    def operation(name: str, path: object) -> None:
        nonlocal count
        if os.getpid() != me or not isinstance(path, str | os.PathLike):
            return
        where = os.path.abspath(path)
        if where != root and not where.startswith(root + os.sep):
            return
        if at is not None and count >= at:
            if how == "kill":
                os.kill(me, signal.SIGKILL)
            if NEED_ROOM[name]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), where)
        os.write(log, f"{name} {os.path.relpath(where, root)}\n".encode(errors="backslashreplace"))
        count += 1

    def audit(event: str, given: tuple) -> None:
        if event == "open":
            if given[2] & WRITING:
                operation(event, given[0])
        elif event in NEED_ROOM:  # relative to a folder that is open: a whole tree is being removed
            operation(event, root if given[-1] >= 0 else given[0])

    _tell_of_the_rest(operation)
    sys.addaudithook(audit)


def _tell_of_the_rest(operation: Callable[[str, object], None]) -> None:
    """What Python's own audit does not tell of: syncing, and files that are not Python's."""
    import safetensors.torch
    import torch

    sync = os.fsync

    def fsync(file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        operation("os.fsync", os.readlink(f"/proc/self/fd/{number}"))
        sync(file)

    def before(save: Callable) -> Callable:
        def saved(content: Any, path: Any, *given: Any, **named: Any) -> Any:
            operation("save", path)
            return save(content, path, *given, **named)

        return saved

    os.fsync = fsync
    torch.save = before(torch.save)
    safetensors.torch.save_file = before(safetensors.torch.save_file)
    safetensors.torch.save_model = before(safetensors.torch.save_model)


QUICK = ("--encoder", "pixels", "--image-size", 8, "--views", 3, "--workers", 0)
END_TO_END = (*QUICK, "--epochs", 2, "--train", "end-to-end", "--resolution", 8)
COMMANDS = ("cluster", "cluster --overwrite", "embed", "predict", "report", "bench")
COMMANDS += ("cluster --train end-to-end", "predict end-to-end")
LEFT = ("unfinished.json", "checkpoint.pt", "pieces", "pixels", "progress.json", LOCK)


class Ground:
    """Images, and what the commands need of one another, made once in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for c, (name, colour) in enumerate(COLOURS.items()):
            for i in range(8):
                paint(folder / "photos" / name / f"{i}.png", colour, 10 * c + i)
        (folder / "photos" / "broken.png").write_bytes(b"\x89PNG")
        for arguments in (
            ("cluster", "photos", "-k", 3, *QUICK, "--epochs", 2, "--out", "run"),
            ("cluster", "photos", "-k", 3, *END_TO_END, "--out", "end-to-end"),
            ("embed", "photos", "--out", "store", *QUICK),
        ):
            result = mfavbs(*arguments, folder=folder)
            assert result.code == 0, result.err

    def arguments(self, command: str, out: Path) -> tuple:
        """The words of a command that writes to ``out``."""
        return {
            "cluster": ("cluster", "photos", "-k", 3, *QUICK, "--epochs", 2, "--out", out),
            "cluster --overwrite": (
                *("cluster", "photos", "-k", 2, *QUICK, "--epochs", 2, "--out", out),
                "--overwrite",
            ),
            "cluster --train end-to-end": (
                *("cluster", "photos", "-k", 3, *END_TO_END, "--out", out),
            ),
            "predict end-to-end": ("predict", "end-to-end", "photos", "--out", out, "--workers", 0),
            "embed": ("embed", "photos", "--out", out, *QUICK),
            "predict": ("predict", "run", "photos", "--out", out, "--workers", 0),
            "report": ("report", out),
            "bench": ("bench", "store", "--methods", "kmeans", "--seeds", "0,", "--out", out),
        }[command]

    def begin(self, command: str, out: Path) -> None:
        """What is in ``out`` before the command begins."""
        shutil.rmtree(out, ignore_errors=True)
        if command in ("report", "cluster --overwrite"):
            shutil.copytree(self.folder / "run", out)
        if command == "report":
            (out / "thumbnails.parquet").unlink()

    def answer(self, command: str, out: Path) -> dict[str, Any]:
        """What the command has found, without dates and seconds; nothing else may be left."""
        left = [path.name for path in out.rglob("*")]
        left = [name for name in left if name in LEFT or name.endswith((".partial", ".part"))]
        assert not left, left
        if command == "bench":
            rows = json.loads((out / "bench.json").read_text())["rows"]
            return {row["method"]: row["acc_mean"] for row in rows}
        names = {
            "embed": ("features.npy", "manifest.parquet", "failures.csv", "store.json"),
            "predict": ("labels.csv", "labels.parquet", "failures.csv", "features.npy"),
            "report": ("report.html", "thumbnails.parquet", "labels.csv"),
        }.get(
            command.removesuffix(" end-to-end"),
            ("labels.csv", "labels.parquet", "thumbnails.parquet", "failures.csv"),
        )
        if command.startswith("cluster"):
            assert (out / "report.html").stat().st_size > 10_000
            assert (out / "run.json").exists()
        return {name: _found(out, name).read_bytes() for name in names}


def _found(out: Path, name: str) -> Path:
    if (out / name).exists():
        return out / name
    (path,) = out.rglob(name)  # in a store's segment, or with its tables
    return path


def check_cut(ground: Ground, command: str, at: int, how: str, answer: dict[str, Any]) -> None:
    """Cut a command off, and run it again to the same answer."""
    out = ground.folder / "out"
    ground.begin(command, out)
    arguments = ground.arguments(command, out)
    first, operations = cut(arguments, ground.folder, out, at, how)
    where = f"{command}, {how} at {at} after {operations[-1:]}: {first.err}"
    if how == "kill":
        assert first.code == -signal.SIGKILL, where
    elif first.code != 0:  # what is only tidied up may do without
        assert first.code == 1, where
        assert "No space left on device" in first.err, where
        assert "Traceback" not in first.err, where
        assert "Error: OSError" not in first.err, where
    again = mfavbs(*arguments, folder=ground.folder)
    assert again.code == 0, f"{where}\nagain: {again.err}"
    assert ground.answer(command, out) == answer, where
