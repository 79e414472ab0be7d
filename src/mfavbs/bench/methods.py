"""What `mfavbs bench` can compare, by name.

In: a name, features (n, v, t, d), k, a seed. Out: labels (n,).

Nothing heavy is imported before a method is run: its process holds that method and no other.
"""

import contextlib
import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np

from mfavbs.bench.ablations import OURS, with_tokens
from mfavbs.bench.from_pixels import FROM_PIXELS, pixel_parameters
from mfavbs.bench.peers import PEERS, WARM_UPS
from mfavbs.errors import MfavbsError


def check_methods(names: list[str]) -> None:
    """Raise `MfavbsError` for a name that no method has."""
    known = [*OURS, *PEERS, *FROM_PIXELS]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise MfavbsError(f"No method {name!r}; expected one of {', '.join(known)}.{hint}")


def parameters_of(name: str, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of a method, the defaults included: what its results depend on.

    ``changed`` are parameters of the estimator; raises `MfavbsError` for one that it has not.
    """
    if name in FROM_PIXELS:
        return pixel_parameters(name, changed or {})
    if name in PEERS:
        _, _, _, *rest = inspect.signature(_peer(PEERS[name])).parameters.values()
        return {p.name: p.default for p in rest if p.default is not p.empty}
    from mfavbs.model import MFAVBsClustering

    elsewhere = ("n_clusters", "device", "random_state", "verbose")
    defaults = MFAVBsClustering().get_params()
    found = {k: v for k, v in defaults.items() if k not in elsewhere}
    for key in changed or {}:
        if key not in found:
            close = get_close_matches(key, found, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise MfavbsError(f"{name} has no parameter {key!r} to change.{hint}")
    return found | OURS[name] | (changed or {})


def prepare(name: str, features: np.ndarray, device: str = "cpu") -> np.ndarray:
    """The features that a method is given, (n, v, t, d).

    What the method imports is imported here, and what it compiles is compiled: its seconds are
    those of clustering alone.
    """
    if name in PEERS:
        _peer(PEERS[name])
        if name in WARM_UPS:
            with contextlib.suppress(Exception):  # the method itself says what is wrong
                _peer(WARM_UPS[name])(features)
        return features
    import torch

    import_module("mfavbs.model.estimator")
    torch.zeros(1, device=device)  # a GPU's first word takes a second
    n_tokens = OURS.get(name, {}).get("tokens")
    return features if n_tokens is None else with_tokens(features, n_tokens)


def cluster(
    name: str,
    features: np.ndarray,
    k: int,
    seed: int,
    device: str,
    changed: dict[str, Any] | None = None,
) -> np.ndarray:
    """Labels (n,) of one method; ``changed`` are parameters of the estimator."""
    if name in PEERS:
        return _peer(PEERS[name])(features, k, seed)
    from mfavbs.model import MFAVBsClustering

    parameters = {key: value for key, value in OURS[name].items() if key != "tokens"}
    parameters |= changed or {}
    return MFAVBsClustering(k, random_state=seed, device=device, **parameters).fit_predict(features)


def _peer(place: str):
    module, function = place.split(".")
    return getattr(import_module(f"mfavbs.bench.peers.{module}"), function)
