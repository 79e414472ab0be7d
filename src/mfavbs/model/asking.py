"""A number of clusters as it is asked for, checked before anything is computed.

In: k, ``"auto"``, or a range. Out: the same in plain types, or an error. Needs no torch.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Literal

from mfavbs.errors import SourceError

Number = int | Literal["auto"] | tuple[int, int]

FEWEST = 20  # different images, below which the number of clusters cannot be told
_EXPECTED = "expected a number >= 2, 'auto', or a range as (5, 60)"


def checked_number(n_clusters: Any) -> Number:
    """A number of clusters >= 2, ``"auto"``, or a range (low, high) with 2 <= low < high.

    Raises
    ------
    SourceError
        (a ValueError) It is none of them.
    """
    if isinstance(n_clusters, str):
        if n_clusters == "auto":
            return "auto"
    elif isinstance(n_clusters, Sequence):
        if len(n_clusters) == 2 and all(map(_is_number, n_clusters)):
            low, high = map(int, n_clusters)
            if 2 <= low < high:
                return low, high
            raise SourceError(
                f"n_clusters={low}:{high} is no range of numbers of clusters: expected 2 or more, "
                "and then a larger number."
            )
    elif _is_number(n_clusters):
        if n_clusters >= 2:
            return int(n_clusters)
        raise SourceError(f"n_clusters={n_clusters} should be >= 2.")
    raise SourceError(f"n_clusters={n_clusters!r}: {_EXPECTED}.")


def least_images(number: Number) -> int:
    """Images that it takes at least."""
    if isinstance(number, tuple):
        return max(FEWEST, 2 * number[0])
    return FEWEST if number == "auto" else number


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
