"""Images that are there more than once.

In: features (n, v, t, d). Out: a row for each content, and a hash of all of them.
"""

from hashlib import blake2b

import numpy as np


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
    contents: dict[bytes, int] = {}
    first: list[int] = []
    content = np.empty(len(features), np.int64)
    total = blake2b(repr((features.shape, features.dtype.str)).encode(), digest_size=16)
    for i, row in enumerate(features):
        digest = blake2b(row.tobytes(), digest_size=16).digest()
        total.update(digest)
        content[i] = contents.setdefault(digest, len(contents))
        if content[i] == len(first):
            first.append(i)
    return np.array(first), content, total.hexdigest()
