"""What comes after the features, tried on some hundreds of them: how long it will take for all.

In: features of some images, how many there are, the parameters of a run. Out: seconds by stage.
"""

import math
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfavbs.devices import pick_device
from mfavbs.errors import MfavbsError
from mfavbs.growing import NUMBER, STAGES, STEP, growth, seconds_there
from mfavbs.model import Number, least_images
from mfavbs.progress import Stages
from mfavbs.sources import Features
from mfavbs.understanding import understand

if TYPE_CHECKING:
    from mfavbs.model import EndToEnd, MFAVBsClustering

_TRAINED, _ASKED = 1_000, 300  # images that a fit, and the questions, are tried on
_WARM = 48  # of a first fit, in which libraries are imported
_PER_CLUSTER = 3  # and so many for each cluster at least
_STEPS = 12  # of training
_PIXELS = 16  # images in a batch that is trained on from pixels, on a CPU
SUPPOSED = 10  # clusters, where they are to be found and these few do not tell how many
_NARROW = 64  # features, where these decide nothing
_MIXED = 0.2  # of another image, in those that stand for images that were not encoded


class Rehearsed(NamedTuple):
    """What the stages after the features will take.

    Attributes
    ----------
    importing
        Seconds that are spent once, on libraries and first calls.
    seconds
        By stage: ``training: …`` and ``insight: …``.
    n_clusters
        k, or what was supposed where it is to be found.
    n_steps
        Of training.
    """

    importing: float
    seconds: dict[str, float]
    n_clusters: int
    n_steps: int


def rehearse(
    features: np.ndarray,
    looks: np.ndarray | None,
    n: int,
    n_clusters: Number,
    *,
    skip: tuple[str, ...] = (),
    **parameters: Any,
) -> Rehearsed:
    """Train on a few images and ask the questions of them, and tell what all will take.

    Parameters
    ----------
    features
        (m, v, t, d) of some images.
    looks
        (m,) of the type `mfavbs.images.LOOK`, or None.
    n
        All images.
    n_clusters
        As they are asked for.
    skip
        Questions that are not asked.
    **parameters
        Of :class:`mfavbs.MFAVBsClustering`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty clusters: these few are not the images
        k, found = _supposed(features, n, n_clusters, parameters)
        parameters = parameters | {"n_clusters": k, "verbose": False}
        begin = time.perf_counter()
        warm = _some(features, looks, min(n, max(_WARM, _PER_CLUSTER * k)))
        _ask(warm, _fitted(warm, 1, parameters)[0], len(warm.keys), skip)
        importing = time.perf_counter() - begin
        few = _some(features, looks, min(n, max(_TRAINED, _PER_CLUSTER * k)))
        m, m_warm = len(few.keys), len(warm.keys)
        model, parts, step = _fitted(few, _STEPS, parameters)
        m_asked = min(m, max(_ASKED, _PER_CLUSTER * k))
        skip = skip if isinstance(n_clusters, int) else (*skip, "k")
        questions = _ask(few, model, m_asked, skip)
    parts = {f"training: {name}": value for name, value in parts.items()}
    for tried, took in ((m, parts), (m_asked, questions)):
        importing -= sum(growth(name, m_warm, tried) * value for name, value in took.items())
    n_steps = _steps(n, None, parameters)
    found |= {name: growth(name, n, m) * value for name, value in parts.items()}
    found |= {"training: epochs": n_steps * step}
    found |= {name: growth(name, n, m_asked) * value for name, value in questions.items()}
    return Rehearsed(max(0.0, importing), found, k, n_steps)


def rehearse_pixels(
    features: np.ndarray, n: int, n_clusters: int, model: "EndToEnd"
) -> dict[str, float]:
    """Train on a few squares of noise from pixels on, and tell what all epochs will take.

    Parameters
    ----------
    features
        (m, v, t, d) of some images.
    n, n_clusters
        All images, and k.
    model
        Not fitted yet.
    """
    from mfavbs.images import Views, content_hash, replay_crops
    from mfavbs.model import EndToEnd, MFAVBsClustering

    parameters = model.get_params(deep=False)
    batch, size = parameters["batch_size"], parameters["image_size"]
    if pick_device(parameters["device"]).type == "cpu":  # a whole batch may take a minute there
        batch = max(_PIXELS, math.ceil(n_clusters / 2))
    m = min(n, max(batch, n_clusters))
    few = _like(features, m)
    pixels = np.random.default_rng(0).integers(0, 256, (m, 2 * size, 2 * size, 3), np.uint8)
    views = Views(size, few.shape[1], 0, augment=parameters["augment"])
    crops = replay_crops(views, [content_hash(image) for image in pixels], 2 * size, size)
    own = {"batch_size": batch, "verbose": False, "anchor_widths": None}
    if parameters["anchor"]:
        frozen = MFAVBsClustering(n_clusters, epochs=1, device=parameters["device"]).fit(few)
        own |= {"frozen": frozen}
    took = []
    for epochs in (0, 1, 3):  # in the first libraries are imported
        begin = time.perf_counter()
        tried = EndToEnd(**parameters | own | {"epochs": epochs})
        tried.fit(pixels, crops, few if parameters["anchor"] else None)
        took.append(time.perf_counter() - begin)
    each = max((took[2] - took[1]) / 2, took[2] / 10)  # the rest is not all there is
    return {"from pixels": parameters["epochs"] * n / m * each}


def glance(
    n: int,
    shape: tuple[int, int],
    given: bool,
    skip: tuple[str, ...],
    parameters: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, float]]:
    """What the stages will take, by the speed of training alone: a second's work.

    Parameters
    ----------
    n, shape
        Images, and (v, t) of each.
    given
        Whether the number of clusters is.
    skip
        Questions that are not asked.
    parameters
        Of :class:`mfavbs.MFAVBsClustering`.

    Returns
    -------
    tuple of dict
        The parameters with a value each, and seconds by stage.
    """
    from mfavbs.model import MFAVBsClustering, resolve

    parameters = parameters | {"verbose": False}
    chosen = resolve(MFAVBsClustering(**parameters).get_params(), n)
    m = min(n, max(chosen["batch_size"], _PER_CLUSTER * parameters["n_clusters"]))
    noise = np.random.default_rng(0).standard_normal((m, *shape, _NARROW), np.float32)
    some = _some(noise, None, m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _fitted(some, 1, parameters)  # libraries are imported, and set themselves up
        step = _fitted(some, _STEPS, parameters)[2]
    found = {"training: epochs": _steps(n, None, parameters) * step}
    found |= {name: step / STEP * seconds_there(name, n) for name in STAGES}
    del found["insight: k" if not given else NUMBER]
    return chosen, {name: x for name, x in found.items() if name.partition(": ")[2] not in skip}


def _supposed(
    features: np.ndarray, n: int, n_clusters: Number, parameters: dict[str, Any]
) -> tuple[int, dict[str, float]]:
    """The number of clusters; and where it is not given, the seconds in which it is found."""
    if isinstance(n_clusters, int):
        return n_clusters, {}
    from mfavbs.model import find_number

    m = min(n, max(_TRAINED, least_images(n_clusters)))
    low, high = n_clusters if isinstance(n_clusters, tuple) else (2, m // 2)
    asked = n_clusters if n_clusters == "auto" else (low, max(low + 1, min(high, m // 2)))
    some = _like(features, m)
    begin = time.perf_counter()
    try:
        k = find_number(some, np.arange(m), asked, parameters.get("dim", 128), 0)["best"]
    except MfavbsError:  # of so few it cannot be told
        k = min(max(SUPPOSED, low), high)
    seconds = (time.perf_counter() - begin) * growth(NUMBER, n, m)
    return int(k), {NUMBER: seconds}


def _steps(n: int, epochs: int | None, parameters: dict[str, Any]) -> int:
    """Steps of so many epochs of n images; of as many as there are by default if None."""
    from mfavbs.model import MFAVBsClustering, resolve

    given = {"epochs": epochs} if epochs is not None else {}
    chosen = resolve(MFAVBsClustering(**(parameters | given)).get_params(), n)
    return chosen["epochs"] * math.ceil(n / chosen["batch_size"])


def _fitted(
    few: Features, n_steps: int, parameters: dict[str, Any]
) -> "tuple[MFAVBsClustering, dict[str, float], float]":
    """A model; seconds of the stages of its training but the epochs; seconds of one step.

    With checkpoints, as in a run.
    """
    from mfavbs.model import MFAVBsClustering

    m = len(few.keys)
    epochs = math.ceil(n_steps / _steps(m, 1, parameters))
    model = MFAVBsClustering(**(parameters | {"epochs": epochs}))
    with tempfile.TemporaryDirectory() as folder:
        model.fit(few.array, checkpoint=Path(folder) / "checkpoint.pt")
    seconds = dict(model.stages_.seconds)
    return model, seconds, seconds.pop("epochs") / _steps(m, epochs, parameters)


def _ask(
    few: Features, model: "MFAVBsClustering", m: int, skip: tuple[str, ...]
) -> dict[str, float]:
    """Seconds of each question, asked of the first m images."""
    looks = None if few.looks is None else few.looks[:m]
    part = Features(
        few.array[:m], few.keys[:m], None, [], [], [], None, {}, few.encoder, None, None, looks
    )
    stages = Stages()
    answers = (model.labels_[:m], model.probabilities_[:m])
    understand(part, model, *answers, 0, stages, skip=("names", *skip))
    return stages.seconds


def _some(features: np.ndarray, looks: np.ndarray | None, m: int) -> Features:
    """As many images as that, of which nothing else is known."""
    if looks is not None:
        looks = np.resize(looks, m)
    keys = [str(row) for row in range(m)]
    made_by = {"name": "features"}
    return Features(_like(features, m), keys, None, [], [], [], None, {}, made_by, looks=looks)


def _like(features: np.ndarray, m: int) -> np.ndarray:
    """Features (m, v, t, d) of images like these; beyond these, mixtures of two of them."""
    n = len(features)
    if m <= n:
        return np.asarray(features[:m])
    rng = np.random.default_rng(0)
    a, b = rng.integers(n, size=(2, m - n))
    share = _MIXED * rng.random((m - n, 1, 1, 1), np.float32)
    mixed = (1 - share) * features[a].astype(np.float32) + share * features[b].astype(np.float32)
    noise = 1 + 0.01 * rng.standard_normal(mixed.shape, np.float32)  # no two are copies
    return np.concatenate([features, (mixed * noise).astype(features.dtype)])
