"""The copies of stores at URLs that a cache holds: which, and pruning.

In: the folder of a cache. Out: its copies, and fewer of them.
"""

import contextlib
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from mfavbs.errors import StoreError
from mfavbs.features.cache_files import list_cache, prune_cache
from mfavbs.features.elsewhere import COPIES, RECORD, STORE, is_sent, location_of
from mfavbs.locking import alone_in


class Copy(NamedTuple):
    """The copy of a store at a URL."""

    path: Path
    url: str
    n_bytes: int
    used: float  # seconds since 1970


def list_copies(cache: Path) -> list[Copy]:
    """What a cache holds of stores at URLs, what was of use the last first."""
    found = []
    for path in (cache / COPIES).glob(f"*/{RECORD}"):
        url = location_of(path.parent / STORE)
        sizes = (file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
        found.append(Copy(path.parent, url, sum(sizes), path.stat().st_mtime))
    return sorted(found, key=lambda copy: -copy.used)


def prune(cache: Path, *, max_age: float | None = None, max_size: float | None = None) -> None:
    """Remove copies and features, those first that have been of use the longest ago.

    Copies go before features, which cost more than to be fetched again. Those stay that are being
    written, and those with something that was not sent to the URL yet.

    Parameters
    ----------
    cache, max_age, max_size
        As in :func:`mfavbs.features.prune_cache`.
    """
    oldest = 0.0 if max_age is None else time.time() - 86400 * max_age
    left = sum(file.n_bytes for file in list_cache(cache))
    kept = 0
    for copy in list_copies(cache):
        too_many = max_size is not None and left + kept + copy.n_bytes > max_size
        if not ((copy.used < oldest or too_many) and _removed(copy.path)):
            kept += copy.n_bytes
    room = None if max_size is None else max(0.0, max_size - kept)
    prune_cache(cache, max_age=max_age, max_size=room)


def _removed(folder: Path) -> bool:
    with contextlib.suppress(StoreError), alone_in(folder / STORE, StoreError):
        if is_sent(folder / STORE):
            (folder / RECORD).unlink(missing_ok=True)  # first: what is left is of no URL
            shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
