"""How long encoding will take, told once, by its own first seconds.

In: parts as they are made. Out: a call with the seconds for all of them.
"""

import time
from collections.abc import Callable

from mfavbs.features.parts import Part

Foretell = Callable[[float, tuple[int, ...]], None]  # seconds, and the shape (v, t, d) of an image

_SECONDS = 5.0  # from the second part on
_UNMEASURED = 2  # parts in which libraries set themselves up


class Watch:
    """To be called with every part.

    Parameters
    ----------
    foretell
        Called once; None: nothing is.
    n
        Images that are to be encoded.
    """

    def __init__(self, foretell: Foretell | None, n: int) -> None:
        self._foretell = foretell
        self._n = n
        self._begin = time.monotonic()
        self._parts = self._done = 0
        self._from = (self._begin, 0)

    def __call__(self, part: Part) -> None:
        """Count a part, and tell when it can be told."""
        self._parts += 1
        self._done += len(part.seen)
        now = time.monotonic()
        if self._parts <= _UNMEASURED:
            self._from = (now, self._done)
        elif self._foretell and part.features is not None and now - self._from[0] > _SECONDS:
            each = (now - self._from[0]) / (self._done - self._from[1])
            tell, self._foretell = self._foretell, None
            tell(now - self._begin + (self._n - self._done) * each, part.features.shape[1:])
