"""Images that are there more than once.

In: features (n, v, t, d). Out: a row for each content, and a hash of all of them.
"""

from hashlib import blake2b

import numpy as np

from mfavbs.memory import let_go

_SIZE = 16  # bytes of a hash
_CHUNK = 4096  # images read at once


def find_copies(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Which rows are equal to the last bit.

    Copies of an image have equal features where its views are seeded by its content. They would
    take all places among each other's neighbours, and teach nothing.

    Returns
    -------
    tuple
        (m,) first row of each content, in order; (n,) which of these contents a row has; and a
        hash of all rows, their shape and type.
    """
    n = len(features)
    digests = np.empty(n, f"V{_SIZE}")
    total = blake2b(repr((features.shape, features.dtype.str)).encode(), digest_size=_SIZE)
    for start in range(0, n, _CHUNK):
        rows = features[start : start + _CHUNK]
        found = b"".join(blake2b(row.tobytes(), digest_size=_SIZE).digest() for row in rows)
        total.update(found)
        digests[start : start + _CHUNK] = np.frombuffer(found, digests.dtype)
        let_go(features)
    _, first, content = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they come, and not as their hashes are sorted
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[content], total.hexdigest()
