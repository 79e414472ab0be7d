"""What `mfavbs bench` can compare, by name.

In: a name, features (n, v, t, d), k, a seed. Out: labels (n,).

Nothing heavy is imported before a method is run: its process holds that method and no other.
"""

import contextlib
import inspect
import math
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np

from mfavbs.errors import MfavbsError, SourceError

# Functions (features, k, seed) -> labels, each in a file of this folder.
PEERS: dict[str, str] = {
    "kmeans": "classical.kmeans",
    "kmeans-projected": "classical.kmeans_projected",
    "umap-projected": "classical.umap_projected",
    "gmm": "classical.gaussian_mixture",
    "spectral": "classical.spectral",
    "umap": "classical.umap_kmeans",
    "evoc": "classical.evoc",
    "cc": "contrastive_clustering.contrastive_clustering",
    "scan": "scan.scan",
    "temi": "temi.temi",
    "turtle": "turtle.turtle",
}
# Parameters of MFAVBsClustering, each set differing from the defaults (one block, channel fusion, 8
# heads) in one thing; "tokens" is how many of each view's it is given. The paper's objective
# brings its own start, gate, number of heads and instance loss.
OURS: dict[str, dict[str, Any]] = {
    "mfavbs": {},
    "paper": {"objective": "paper"},
    "blocks-0": {"n_blocks": 0},
    "blocks-2": {"n_blocks": 2},
    "blocks-3": {"n_blocks": 3},
    "fusion-none": {"fusion": "none"},
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
# What a peer imports only when it is called.
_PACKAGES = {"umap": "umap", "umap-projected": "umap", "evoc": "evoc"}
_CHUNK = 4096  # images whose tokens are averaged at once: bounds the float32 copy


def check_methods(names: list[str]) -> None:
    """Raise `MfavbsError` for a name that no method has."""
    known = [*OURS, *PEERS]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise MfavbsError(f"No method {name!r}; expected one of {', '.join(known)}.{hint}")


def parameters_of(name: str) -> dict[str, Any]:
    """Every parameter of a method, the defaults included: what its results depend on."""
    if name in PEERS:
        _, _, _, *rest = inspect.signature(_peer(name)).parameters.values()
        return {p.name: p.default for p in rest if p.default is not p.empty}
    from mfavbs.model import MFAVBsClustering

    elsewhere = ("n_clusters", "device", "random_state", "verbose")
    defaults = MFAVBsClustering().get_params()
    return {k: v for k, v in defaults.items() if k not in elsewhere} | OURS[name]


def prepare(name: str, features: np.ndarray) -> np.ndarray:
    """The features that a method is given, (n, v, t, d); imports what it will import itself."""
    if name in PEERS:
        _peer(name)
        with contextlib.suppress(ImportError):  # the method says what to install
            import_module(_PACKAGES.get(name, "numpy"))
        return features
    n_tokens = OURS[name].get("tokens")
    features = features if n_tokens is None else with_tokens(features, n_tokens)
    import_module("mfavbs.model.estimator")
    return features


def cluster(name: str, features: np.ndarray, k: int, seed: int, device: str) -> np.ndarray:
    """Labels (n,) of one method."""
    if name in PEERS:
        return _peer(name)(features, k, seed)
    from mfavbs.model import MFAVBsClustering

    parameters = {key: value for key, value in OURS[name].items() if key != "tokens"}
    return MFAVBsClustering(k, random_state=seed, device=device, **parameters).fit_predict(features)


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


def _peer(name: str):
    module, function = PEERS[name].split(".")
    return getattr(import_module(f"mfavbs.bench.peers.{module}"), function)
