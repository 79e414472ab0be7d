"""The segments of a store: blocks of features by time of arrival, read as one array.

In: memory-mapped blocks (m, v, t, d) float16 and, of each of n rows, its block and its place there.
Out: an array (n, v, t, d) that is gathered as it is read.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np


class SegmentedFeatures:
    """Rows of several blocks as one array, of which a part is read at a time.

    It can be indexed like an array by a number, a slice or an array of rows, and after them by
    whatever a block can; ``np.asarray`` reads all of it.

    Parameters
    ----------
    blocks
        (m, v, t, d) each, m of its own.
    block
        (n,) number of the block in which each row lies.
    place
        (n,) its row there.
    """

    def __init__(self, blocks: Sequence[np.ndarray], block: np.ndarray, place: np.ndarray) -> None:
        self.blocks = blocks
        self._block = block
        self._place = place
        self.shape = (len(block), *blocks[0].shape[1:])
        self.dtype = blocks[0].dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._block)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        block, place = self._block[rows], self._place[rows]
        if not isinstance(block, np.ndarray):  # one row
            return self.blocks[block][(place, *rest)]
        rest_of = (slice(None), *rest)
        found = np.empty((len(block), *self.blocks[0][(slice(0), *rest)].shape[1:]), self.dtype)
        for number in np.unique(block):
            mine = block == number
            found[mine] = self.blocks[number][place[mine]][rest_of]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self[:]
        return array if dtype is None else array.astype(dtype, copy=False)


def is_one(blocks: Sequence, place: np.ndarray) -> bool:
    """Whether rows at these places are one block as it lies on the disk."""
    return len(blocks) == 1 and np.array_equal(place, np.arange(len(blocks[0])))


def as_one(blocks: Sequence[np.ndarray], block: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The rows of ``blocks``: an array where they are one block as it lies on the disk.

    Else :class:`SegmentedFeatures`, which for who reads it is one.
    """
    if is_one(blocks, place):
        return blocks[0]
    return cast(np.ndarray, SegmentedFeatures(blocks, block, place))
