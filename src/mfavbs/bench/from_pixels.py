"""Training from pixels, and that with one thing changed at a time, as methods of a bench.

In: a feature store with the pixels of its images beside it, k, a seed. Out: labels (n,).
"""

from pathlib import Path
from typing import Any

import numpy as np

from mfavbs.features import FeatureStore

# Parameters of EndToEnd, each set differing from the defaults in one thing. All start as a frozen
# run of the same seed but "vtcc" (arXiv 2206.12925), which is told no features and judged by none:
# without fusion the paper's objective contrasts two views as it does.
FROM_PIXELS: dict[str, dict[str, Any]] = {
    "end-to-end": {},
    "vtcc": {"frozen": None, "fusion": "none", "objective": "paper"},
    "pixels-paper": {"objective": "paper"},
    "pixels-fusion-channel": {"fusion": "channel"},
    "pixels-fusion-none": {"fusion": "none"},
    "pixels-anchor-off": {"anchor": False},
    "pixels-anchor-kept": {"anchor_drop": 0.0},
    "pixels-blocks-2": {"n_blocks": 2},
    "pixels-blocks-3": {"n_blocks": 3},
    "pixels-start-random": {"start": "random"},
}
_ELSEWHERE = ("frozen", "n_clusters", "anchor_widths", "device", "random_state", "verbose")


def pixel_parameters(name: str, changed: dict[str, Any]) -> dict[str, Any]:
    """Every parameter of a method, the defaults included."""
    from mfavbs.model import EndToEnd

    defaults = EndToEnd().get_params(deep=False)
    found = {k: v for k, v in defaults.items() if k not in _ELSEWHERE}
    return found | changed | FROM_PIXELS[name]


def cluster_pixels(
    name: str,
    store: Path,
    pixels: Path,
    features: np.ndarray,
    k: int,
    seed: int,
    device: str,
    changed: dict[str, Any],
) -> np.ndarray:
    """Labels (n,) of one method.

    Parameters
    ----------
    name
        Of :data:`FROM_PIXELS`.
    store, pixels
        Folders of the features and of the pixels.
    features
        (n, v, 1, d), what the store holds.
    k, seed, device
        Of the frozen run as well.
    changed
        Parameters of :class:`mfavbs.model.EndToEnd` for all methods.
    """
    from mfavbs.model import EndToEnd, MFAVBsClustering

    crops = np.load(pixels / "crops.npy", mmap_mode="r")
    images = np.load(pixels / "pixels.npy", mmap_mode="r")
    parameters = changed | {"random_state": seed, "device": device} | FROM_PIXELS[name]
    if "frozen" in parameters:
        return EndToEnd(n_clusters=k, **parameters).fit(images, crops).labels_
    shared = {"dim": parameters["dim"]} if "dim" in parameters else {}
    frozen = MFAVBsClustering(k, random_state=seed, device=device, **shared).fit(features)
    parameters["anchor_widths"] = list(FeatureStore.open(store).blocks)
    return EndToEnd(frozen, **parameters).fit(images, crops, features).labels_
