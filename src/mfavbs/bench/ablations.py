"""mfavbs, and mfavbs with one thing changed at a time.

In: features (n, v, t, d). Out: those that an ablation is given.
"""

import math
from typing import Any

import numpy as np

from mfavbs.errors import SourceError

# Parameters of MFAVBsClustering, each set differing from the defaults (one block, no fusion, 8
# heads) in one thing; "tokens" is how many of each view's it is given. The paper's objective
# brings its own start, gate, number of heads and instance loss.
OURS: dict[str, dict[str, Any]] = {
    "mfavbs": {},
    "paper": {"objective": "paper"},
    "blocks-0": {"n_blocks": 0},
    "blocks-2": {"n_blocks": 2},
    "blocks-3": {"n_blocks": 3},
    "fusion-channel": {"fusion": "channel"},
    "fusion-token": {"fusion": "token"},
    "init-random": {"init": "random"},
    "gate-none": {"gate": None},
    "neighbours-off": {"n_neighbors": 0},
    "instance-1": {"instance_weight": 1.0},
    "balance-1": {"balance_weight": 1.0},
    "heads-1": {"n_cluster_heads": 1},
    "tokens-1": {"tokens": 1},
    "tokens-5": {"tokens": 5},
    "tokens-17": {"tokens": 17},
}
_CHUNK = 4096  # images whose tokens are averaged at once: bounds the float32 copy


def with_tokens(features: np.ndarray, n_tokens: int) -> np.ndarray:
    """Features with fewer tokens: the pooled one, and the grid's averaged to a coarser grid.

    Parameters
    ----------
    features
        (n, v, 1 + g², d).
    n_tokens
        1 + c², where c divides g.

    Returns
    -------
    ndarray
        (n, v, n_tokens, d).

    Raises
    ------
    SourceError
        There are too few tokens, or a grid that cannot be averaged to that one.
    """
    n, v, t, d = features.shape
    grid, coarse = math.isqrt(t - 1), math.isqrt(n_tokens - 1)
    if t == n_tokens or n_tokens == 1:
        return features[:, :, :n_tokens]
    if grid % coarse or grid < coarse:
        raise SourceError(
            f"The features have {t} tokens a view (grid {grid}), {n_tokens} cannot be made of "
            f"them; embed with grid={coarse}, or a multiple of it."
        )
    made = np.empty((n, v, n_tokens, d), features.dtype)
    made[:, :, 0] = features[:, :, 0]
    step = grid // coarse
    for start in range(0, n, _CHUNK):
        part = features[start : start + _CHUNK, :, 1:].astype(np.float32)
        cells = part.reshape(-1, v, coarse, step, coarse, step, d).mean((3, 5))
        made[start : start + _CHUNK, :, 1:] = cells.reshape(-1, v, coarse**2, d)
    return made
