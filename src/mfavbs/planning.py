"""What a run will take before it is begun: time, memory, disk, and what had better be changed.

In: all that a run is asked for. Out: a plan, by stages; nothing is written.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfavbs import runs
from mfavbs.advising import advise
from mfavbs.cutting import is_run
from mfavbs.devices import check_device, pick_device
from mfavbs.encoders import DEFAULT_ENCODER, Names, Weights, check_encoder, encoder_asked
from mfavbs.encoders import Sizes as ImageSizes
from mfavbs.errors import SourceError
from mfavbs.files import user_path
from mfavbs.foretelling import Plan, Sizes, as_stages, disk_of, memory_of
from mfavbs.images import IMAGE_MEMORY, Images, Range, checked_range, views_of
from mfavbs.memory import Memory, checked_memory, machine_memory, peak_memory_mib
from mfavbs.model import Number, checked_number
from mfavbs.rehearsing import rehearse, rehearse_pixels
from mfavbs.sources import OpenedSource, Source, open_source
from mfavbs.training import (
    END_TO_END,
    FROZEN,
    asked_training,
    check_trainable,
    checked_model,
    features_asked,
    frozen_parameters,
)
from mfavbs.truth import check_early

_KEPT = 2_000  # images whose features the later stages are tried on
_PICTURES = 16  # of the report, that are made for once
_PAGE = 0.5  # seconds that its page takes beside its pictures


def plan(
    source: Source,
    n_clusters: Number | list[int],
    *,
    out: str | Path | None = None,
    encoder: Names = DEFAULT_ENCODER,
    weights: Weights = None,
    image_size: ImageSizes = None,
    grid: int = 0,
    fit: str | None = None,
    train: str = FROZEN,
    resolution: int | None = None,
    anchor: bool = True,
    n_views: int = 5,
    augment: str = "default",
    exclude: Sequence[str] = (),
    seed: int = 0,
    value_range: str | Range = "type",
    image_memory: int = IMAGE_MEMORY,
    with_map: bool = True,
    cache: str | Path | None = None,
    n_workers: int | None = None,
    device: str = "auto",
    memory: Memory = None,
    **estimator: Any,
) -> Plan:
    """Tell what :func:`mfavbs.cluster_images` will take, by encoding and training on a few images.

    It takes some 15 seconds on two cores, and writes nothing.

    Parameters
    ----------
    source, n_clusters, encoder, weights, image_size, grid, fit, train, resolution, anchor
        As in :func:`mfavbs.cluster_images`, and so are all that follow.
    n_views, augment, exclude, seed, value_range, image_memory, with_map
        Of images and views.
    cache, n_workers, device, memory, estimator
        Of the computation.
    out
        The run folder. Features that it holds already cost nothing; without it none are looked
        for, and the disk is that of the current folder.

    Returns
    -------
    Plan
        Seconds by stage, bytes, and advice.

    Raises
    ------
    MfavbsError
        Whatever :func:`mfavbs.cluster_images` would refuse before it encodes anything.
    """
    number, trained = checked_number(n_clusters), asked_training(train, resolution, anchor, grid)
    n_views = views_of(augment, n_views)
    if train == END_TO_END and estimator.get("epochs", 0) is None:
        del estimator["epochs"]
    if not anchor:
        encoder, weights, image_size = "pixels", None, None
    check_encoder(encoder, weights=weights, image_size=image_size, grid=grid, fit=fit)
    check_device(device)
    checked_memory(memory)
    checked_range(value_range)
    place = None if out is None else user_path(out)
    begin = time.perf_counter()
    if is_run(source):
        raise SourceError(
            f"{source} is a finished run: `mfavbs cluster` cuts its tree at another number in "
            "a few seconds. To plan a new run, give its images, or its folder features."
        )
    opened = open_source(source, exclude)
    listing = time.perf_counter() - begin
    check_early(opened, number, None, False)
    check_trainable(train, opened, None)
    begin = time.perf_counter()
    model = checked_model(
        number,
        trained,
        augment,
        memory,
        random_state=seed,
        device=device,
        verbose=False,
        **estimator,
    )
    asked = {
        **encoder_asked(encoder, weights, image_size),
        **trained,
        "grid": grid,
        "fit": fit,
        "n_views": n_views,
        "augment": augment,
        "seed": seed,
        "value_range": value_range,
        "image_memory": image_memory,
    }
    how = {"cache": cache, "n_workers": n_workers, "device": device}
    seen = _looked_at(opened, features_asked(asked), place, how, begin)
    return _planned(opened, number, model, asked, seen, place, listing, memory, with_map)


class _Seen(NamedTuple):
    """What encoding takes, and features (m, v, t, d) of some images."""

    n: int  # images that can be read, about
    n_new: int
    seconds: dict[str, float]
    features: np.ndarray
    looks: np.ndarray | None
    about: dict[str, Any]


def _looked_at(
    opened: OpenedSource, asked: dict[str, Any], out: Path | None, how: dict[str, Any], begin: float
) -> _Seen:
    """Load the encoder and encode some of the images; ``begin``: when libraries were imported."""
    encoder = opened.load_encoder(asked)
    if opened.images is None:
        have = opened.features(Path(), None, asked)
        n = len(have.array)
        rows = np.linspace(0, n - 1, min(n, _KEPT)).round().astype(np.int64)
        looks = None if have.looks is None else have.looks[rows]
        seconds = {"starting": time.perf_counter() - begin}
        return _Seen(n, 0, seconds, _as_tokens(np.asarray(have.array[rows])), looks, {})
    from mfavbs.features import measure

    loading = time.perf_counter() - begin
    assert encoder is not None, "what load_encoder has made"
    names = ("n_views", "augment", "seed", "value_range", "image_memory")
    asked_for = {name: asked[name] for name in names}
    store = None if out is None else out / runs.FEATURES
    found = measure(opened.images, encoder, store, **asked_for, **how, n_kept=_KEPT)
    n_all = len(opened.keys)
    seconds = {"starting": loading + found.starting, "features": found.n_new * found.each}
    about = {
        "readable": found.readable,
        "cached": found.cached,
        "had": n_all - found.n_new,
        "picture": _seconds_a_picture(opened.images),
    }
    n = max(1, round(found.readable * n_all))
    n_new = round((1 - found.cached) * found.n_new)
    return _Seen(n, n_new, seconds, found.features, found.looks, about)


def _seconds_a_picture(images: Images) -> float:
    """Seconds for an image that is read once more, for the report."""
    rows = np.linspace(0, len(images) - 1, min(len(images), _PICTURES)).round().astype(int)
    runs.thumbnails(images, images.keys[:1])  # libraries are imported
    begin = time.perf_counter()
    runs.thumbnails(images, [images.keys[row] for row in rows])
    return (time.perf_counter() - begin) / len(rows)


def _as_tokens(array: np.ndarray) -> np.ndarray:
    """Features (m, d) or (m, v, d) as (m, v, t, d)."""
    return {2: array[:, None, None], 3: array[:, :, None]}.get(array.ndim, array)


def _planned(
    opened: OpenedSource,
    number: Number,
    model: Any,
    asked: dict[str, Any],
    seen: _Seen,
    out: Path | None,
    listing: float,
    memory: Memory,
    with_map: bool,
) -> Plan:
    """All stages, from what was seen of the features."""
    from mfavbs.model import MFAVBsClustering, resolve

    skip = () if with_map else ("map",)
    parameters = {name: x for name, x in frozen_parameters(model).items() if name != "n_clusters"}
    seconds = {"listing": listing, **seen.seconds}
    rehearsed = rehearse(seen.features, seen.looks, seen.n, number, skip=skip, **parameters)
    seconds["starting"] += rehearsed.importing
    found, k = as_stages(rehearsed.seconds), rehearsed.n_clusters
    if asked["train"] == END_TO_END:
        picture = seen.about["picture"]
        pixels = rehearse_pixels(seen.features, seen.n, k, model)
        found = {"training": found.pop("training"), "pixels": seen.n * picture, **pixels, **found}
        if not asked["anchor"]:  # nothing is asked of its clusters, and no features are trained on
            found = {name: found[name] for name in ("pixels", *pixels)}
    chosen = resolve(MFAVBsClustering(**parameters | {"n_clusters": k}).get_params(), seen.n)
    v, t, f = seen.features.shape[1:]
    edge = 2 * asked["resolution"] if asked["train"] == END_TO_END else 0
    of = Sizes(
        *(seen.n, v, t, f, k, chosen["n_cluster_heads"], chosen["dim"], seen.n_new),
        stored=opened.images is not None,
        edge=edge,
    )
    seconds |= found | {"report": of.pictures * seen.about.get("picture", 0.0) + _PAGE}
    bound = checked_memory(memory)
    disk, meanwhile = disk_of(of, bound)
    made = Plan(
        n_images=len(opened.keys),
        n_clusters=number,
        n_to_encode=seen.n_new,
        device=str(pick_device(model.device)),
        seconds={name: round(value, 2) for name, value in seconds.items()},
        disk=disk,
        disk_meanwhile=meanwhile,
        disk_free=shutil.disk_usage(_that_is_there(out or Path())).free,
        memory=memory_of(of, int(peak_memory_mib() * 2**20), bound),
        memory_machine=machine_memory(),
        advice=[],
    )
    return replace(made, advice=advise(made, seen.n, k, asked, seen.about))


def _that_is_there(folder: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
