"""The line that a long run begins with: what it will take, and how much of the disk.

In: all that is asked for, the seconds that encoding takes. Out: a line on stderr, or none.
"""

from typing import Any

from mfavbs.errors import MfavbsError
from mfavbs.foretelling import Sizes, as_stages, disk_of, size, told
from mfavbs.model import checked_number
from mfavbs.progress import say
from mfavbs.rehearsing import SUPPOSED, glance
from mfavbs.training import END_TO_END, frozen_parameters

_LONG = 60.0  # seconds from which on a run is announced
_MANY = 20_000  # images from which on it may be so long when their features are there
_WORTH = 0.5  # of `_LONG`: encoding from which on a second is spent on looking at the rest


class Announcement:
    """Says the line once, if there is cause to.

    Parameters
    ----------
    n
        Images of the source.
    model, asked
        Not fitted yet; every parameter of the run.
    skip
        Questions that are not asked.
    stored
        Whether the features come to lie in the run folder.
    show
        False says nothing.
    """

    def __init__(
        self,
        n: int,
        model: Any,
        asked: dict[str, Any],
        skip: tuple[str, ...],
        *,
        stored: bool,
        show: bool,
    ) -> None:
        self._n, self._model, self._asked, self._skip = n, model, asked, skip
        self._stored = stored
        self._show = show and asked.get("anchor", True)  # without, nothing comes before the pixels

    def __call__(self, encoding: float, shape: tuple[int, ...]) -> None:
        """Of seconds that encoding takes, 0 where nothing is encoded, and an image's (v, t, d)."""
        if not self._show or (encoding < _WORTH * _LONG and self._n < _MANY):
            return
        self._show = False
        number = checked_number(self._asked["n_clusters"])
        k = number if isinstance(number, int) else SUPPOSED
        parameters = frozen_parameters(self._model) | {"n_clusters": k}
        v, t, f = (*shape[:-1], *(1,) * (3 - len(shape)), shape[-1])
        try:
            chosen, stages = glance(self._n, (v, t), k == number, self._skip, parameters)
        except MfavbsError:  # as of a GPU that is full meanwhile: no reason to end the run
            return
        seconds = ({"features": encoding} if encoding else {}) | as_stages(stages)
        if sum(seconds.values()) < _LONG:
            return
        h, d = chosen["n_cluster_heads"], chosen["dim"]
        n_new = self._n if encoding else 0
        finished, _ = disk_of(Sizes(self._n, v, t, f, k, h, d, n_new, self._stored))
        end_to_end = self._asked["train"] == END_TO_END
        then = "; how long from pixels, its first steps will tell" * end_to_end
        say(f"{told(self._n, number, seconds)}, {size(finished)} on disk{then}")
