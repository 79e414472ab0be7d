"""What has changed in a source since a store was made of it, without reading an image.

In: names, sizes and times then and now. Out: which are new, changed, gone and kept.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mfavbs.features.pieces import Seen


class Diff(NamedTuple):
    """Keys of a source, each in one list; whether a content is new shows only on reading."""

    new: list[str]
    changed: list[str]
    gone: list[str]
    kept: list[str]

    def __bool__(self) -> bool:
        """Whether there is any change."""
        return bool(self.new or self.changed or self.gone)

    def __str__(self) -> str:
        names = ("new", "changed", "gone", "kept")
        return ", ".join(f"{len(keys):,} {name}" for name, keys in zip(names, self, strict=True))


def compare(before: Mapping[str, Seen], now: Iterable[tuple[str, tuple[int, float]]]) -> Diff:
    """Sort keys by whether their size or time has changed.

    Parameters
    ----------
    before
        By key, the images that were read as well as those that could not be.
    now
        (key, (size, time)) of every candidate.
    """
    found = Diff([], [], [], [])
    here = set()
    for key, stat in now:
        here.add(key)
        kind = "new" if key not in before else "kept" if before[key].stat == stat else "changed"
        getattr(found, kind).append(key)
    found.gone.extend(key for key in before if key not in here)
    return found
