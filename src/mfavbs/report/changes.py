"""What changed since an earlier state or run, in sentences.

In: the content of changes.json. Out: a sentence for each kind of change that there was.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_MOST = 12  # clusters told of one by one


def told(changes: Mapping[str, Any] | None) -> list[str]:
    """Sentences on the images that came and went, and on the clusters that became others.

    Parameters
    ----------
    changes
        As :func:`mfavbs.runs.changes` has it, with the counts of images; or None.
    """
    if not changes:
        return []
    images, clusters = _object(changes.get("images")), _object(changes.get("clusters"))
    counted = [name for name in ("new", "gone", "kept") if name in images]
    like = changes.get("like")
    said = [f"Numbered like the run {like}"] if like else []
    said += [f"{name.capitalize()} images: {images[name]:,}" for name in counted]
    grown = [f"{n} from {was:,} to {now:,}" for n, (was, now) in _pairs(clusters.get("grown"))]
    split = [f"{n} into {_and(parts)}" for n, parts in _pairs(clusters.get("split"))]
    merged = [f"{_and(parts)} into {n}" for n, parts in _pairs(clusters.get("merged"))]
    kinds = {
        "Grown": grown,
        "Split": split,
        "Merged": merged,
        "Vanished": map(str, clusters.get("vanished") or []),
        "New clusters": map(str, clusters.get("new") or []),
    }
    return said + [f"{kind}: {_some(e)}" for kind, found in kinds.items() if (e := list(found))]


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pairs(value: object) -> Iterable[tuple[str, Any]]:
    return sorted(_object(value).items(), key=lambda item: int(item[0]))


def _and(numbers: Iterable[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def _some(said: list[str]) -> str:
    more = len(said) - _MOST
    return "; ".join(said[:_MOST]) + (f"; and {more:,} more" if more > 0 else "")
