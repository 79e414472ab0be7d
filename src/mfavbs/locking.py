"""One process at a time in an output folder.

In: a folder. Out: the folder, held until the block ends; who comes second is told in a sentence.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mfavbs.errors import MfavbsError, RunError

LOCK = ".mfavbs.lock"


@contextlib.contextmanager
def alone_in(
    folder: Path, kind: type[MfavbsError] = RunError, *, wait: float = 0.0
) -> Iterator[None]:
    """Make ``folder`` and keep other processes and threads of mfavbs out of it for a while.

    The lock is the operating system's: it ends with the process, however that ends, so that the
    file which a kill leaves behind stops nobody.

    ``wait`` is how many seconds another one may need to end.

    Raises
    ------
    RunError, or another ``kind``
        Somebody else is at work there, or it cannot be written to.
    """
    lock = FileLock(folder / LOCK, timeout=wait)
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise kind(
            f"Another process of mfavbs is at work in {folder}; wait until it has ended, or give "
            "another output folder."
        ) from error
    except OSError as error:
        raise kind(
            f"The folder {folder} cannot be written: {error.strerror or error}; make room, or give "
            "another output folder."
        ) from error
    try:
        yield
    finally:
        # Removed while it is held: whoever opened it meanwhile sees that it has no name any more.
        # On Windows an open file stays.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # not empty, as a rule
                folder.rmdir()


def check_alone(folder: Path) -> None:
    """Refuse as :func:`alone_in` does, before the seconds that torch takes ahead of the lock."""
    if (folder / LOCK).exists():
        with alone_in(folder):
            pass
