"""How much memory there is and may be taken, what lies on the disk instead, and what was taken.

In: a bound as a person gives it. Out: bytes; arrays in files without a name; peaks of stages.
"""

import contextlib
import math
import mmap
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfavbs.errors import MfavbsError, SourceError

if TYPE_CHECKING:  # a wrong bound is told before numpy is imported
    import numpy as np

Memory = int | str | None  # bytes; text as 8G; half of what there is

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_UNBOUNDED = 2**60  # and more: what systems write where there is no limit
_PROCESS = object()
_peaks = {_PROCESS: 0.0}  # MiB: of it, and of each stage that is open; `_note` keeps them
_noting = threading.Lock()  # several threads may have stages


def checked_memory(memory: Memory) -> int:
    """A bound in bytes; by default half of the memory that this process may have.

    Raises
    ------
    SourceError
        It is no size.
    """
    if memory is None:
        return machine_memory() // 2
    found = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    if found:
        n_bytes = int(min(float(found[1]) * _UNITS[found[2].lower()], _UNBOUNDED))
    elif isinstance(memory, Integral) and not isinstance(memory, bool):
        n_bytes = min(int(memory), _UNBOUNDED)
    else:
        n_bytes = 0
    if n_bytes < 1:
        raise SourceError(
            f"memory={memory!r} should be a size as '8G' or '500M', or a number of bytes; leave "
            "it out for half of the machine's."
        )
    return n_bytes


def in_words(n_bytes: float) -> str:
    """A size as :func:`checked_memory` takes it, rounded up to whole MiB."""
    return f"{math.ceil(n_bytes / 2**20)}M"


def machine_memory() -> int:
    """Bytes that this process may have: the machine's, or less where it is bounded.

    By a container or another control group, by Slurm, or by the shell (``ulimit -v``).
    """
    bounds = [_installed(), *_of_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    with contextlib.suppress(KeyError, ValueError):
        bounds.append(int(os.environ["SLURM_MEM_PER_NODE"]) * 2**20)
    with contextlib.suppress(ImportError):
        import resource

        bounds.append(resource.getrlimit(resource.RLIMIT_AS)[0])  # negative is none
    return min(bound for bound in bounds if 0 < bound < _UNBOUNDED)


def _installed() -> int:
    if sys.platform == "win32":
        import psutil

        return psutil.virtual_memory().total
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups(said: Path, mounted: Path) -> list[int]:
    """The limits of the control groups that the process is in, and of those around them."""
    try:
        groups = [line.split(":", 2) for line in said.read_text().splitlines()]
    except OSError:
        return []
    bounds = []
    for _, controllers, name in groups:
        root, file = mounted, "memory.max"
        if "memory" in controllers.split(","):  # version 1
            root, file = mounted / "memory", "memory.limit_in_bytes"
        elif controllers:
            continue
        inside = root / name.strip("/")
        for folder in (inside, *inside.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                bounds.append(int((folder / file).read_text()))
            if folder == root:
                break
    return bounds


def scratch(shape: tuple[int, ...], dtype: Any, folder: Path | None = None) -> "np.memmap":
    """Numbers in a file without a name, which is gone when they are, or the process is.

    Parameters
    ----------
    shape, dtype
        Of the numbers.
    folder
        On whose disk; by default where the system has temporary files.

    Raises
    ------
    MfavbsError
        There is no room.
    """
    import numpy as np

    place = Path(folder or tempfile.gettempdir())
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            _reserve(file.fileno(), n_bytes, place)
            return np.memmap(file, dtype, "r+", shape=shape)  # it keeps the file open
    except OSError as error:
        raise MfavbsError(
            f"{in_words(n_bytes)} of disk are needed in {place} for a while: "
            f"{error.strerror or error}. Make room there"
            + ("" if folder else ", set TMPDIR to a folder elsewhere,")
            + " or give more memory=."
        ) from error


def _reserve(file: int, n_bytes: int, place: Path) -> None:
    """Take the room now: a disk that is full later would end the process without a word."""
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, n_bytes)
        return
    if shutil.disk_usage(place).free < n_bytes:
        raise OSError(None, "No space left on device")
    os.truncate(file, n_bytes)


def let_go(array: Any) -> None:
    """Give back the memory by which a memory-mapped array was read; the system may keep a copy.

    Anything else is left as it is, and so is a map whose changes are kept from its file.
    """
    import numpy as np

    for block in getattr(array, "blocks", ()):  # of a store of several segments
        let_go(block)
    while isinstance(array, np.ndarray):
        mapped = getattr(array, "_mmap", None)
        if mapped is not None:
            if getattr(array, "mode", "c") != "c" and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
            return
        array = array.base


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, its workers not counted."""
    with _noting:
        _note()
        return _peaks[_PROCESS]


@contextlib.contextmanager
def peak_memory_of() -> Iterator[Callable[[], float]]:
    """What tells the largest resident memory since, in MiB, when the block has ended.

    Where the system does not let its mark be set back, it is the largest so far.
    """
    stage = object()
    found: list[float] = []
    with _noting:
        _note()
        _peaks[stage] = 0.0
    try:
        yield lambda: found[0]
    finally:
        with _noting:
            _note()
            found.append(_peaks.pop(stage))


def _note() -> None:
    """Take the system's mark into every peak that is open, and set it back."""
    mark = _mark_mib()
    _peaks.update({stage: max(peak, mark) for stage, peak in _peaks.items()})
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _mark_mib() -> float:
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    if sys.platform == "linux":
        # getrusage counts what the parent held when it started this process.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
