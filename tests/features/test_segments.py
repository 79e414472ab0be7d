"""In: blocks of features. Out: what one array of the same rows would give."""

import numpy as np
import pytest

from mfavbs.features.segments import SegmentedFeatures, as_one


@pytest.fixture
def both():
    rng = np.random.default_rng(0)
    blocks = [rng.random((m, 3, 2, 4)).astype(np.float16) for m in (5, 1, 7)]
    block = rng.integers(0, 3, 20)
    place = np.array([rng.integers(0, len(blocks[b])) for b in block])
    one = np.stack([blocks[b][p] for b, p in zip(block, place)])
    return SegmentedFeatures(blocks, block, place), one


@pytest.mark.parametrize(
    "index",
    [
        3,
        -1,
        np.int64(4),
        slice(None),
        slice(2, 9),
        slice(18, 40),
        slice(5, 5),
        np.array([7, 7, 0]),
        np.array([], int),
        (slice(None), 0, 0),
        (np.array([3, 1]), slice(None), 0),
        (slice(4, 8), 0),
        (2, 1),
    ],
)
def test_it_is_indexed_as_one_array_is(both, index):
    parts, one = both
    np.testing.assert_array_equal(parts[index], one[index])


def test_it_is_an_array_to_numpy(both):
    parts, one = both
    assert (len(parts), parts.shape, parts.ndim, parts.dtype) == (20, one.shape, 4, one.dtype)
    np.testing.assert_array_equal(np.asarray(parts), one)
    assert np.asarray(parts, dtype=np.float32).dtype == np.float32


def test_one_block_in_its_own_order_stays_as_it_is():
    block = np.zeros((4, 2, 1, 3), np.float16)
    assert as_one([block], np.zeros(4, int), np.arange(4)) is block
    assert as_one([block], np.zeros(3, int), np.arange(3)) is not block
