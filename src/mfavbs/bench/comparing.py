"""`mfavbs bench`: the method, its ablations and its peers on one data set.

In: labelled images or a feature store of them, names of methods, seeds.
Out: a folder with ``results/METHOD-SEED.json``, each written as soon as it is known, and the
table of them: ``bench.json``, ``bench.csv``, ``bench.md``. Interrupted, the same call goes on.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mfavbs import __version__
from mfavbs.bench import methods
from mfavbs.bench.table import row_of, write_tables
from mfavbs.bench.trial import TrialError, run_trial
from mfavbs.datasets import DATASETS, open_dataset
from mfavbs.devices import pick_device
from mfavbs.encoders import DEFAULT_ENCODER, load_encoder
from mfavbs.errors import RunError, SourceError
from mfavbs.features import FeatureStore, embed
from mfavbs.files import holds_only, read_json, user_path, write_json
from mfavbs.locking import alone_in
from mfavbs.metrics import purity, score
from mfavbs.progress import Progress
from mfavbs.runs import FEATURES, unwritable
from mfavbs.sources import ArraySource, ImageSource, StoreSource, open_source

RESULTS = "results"


def bench(
    source: str | Path,
    names: Sequence[str],
    *,
    out: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    n_clusters: int | None = None,
    data: str | Path | None = None,
    encoder: str = DEFAULT_ENCODER,
    weights: str | Path | None = None,
    image_size: int | None = None,
    grid: int = 0,
    n_views: int = 5,
    n_workers: int | None = None,
    device: str = "auto",
    verbose: bool = True,
) -> dict[str, Any]:
    """Run every method with every seed, each in a process of its own, and make the table.

    Parameters
    ----------
    source
        A feature store; images in one sub-folder for each label (a folder or a ``.tar``); or the
        name of a data set, see :func:`mfavbs.open_dataset`. What exists as a path is
        taken for a path.
    names
        Of :data:`mfavbs.bench.OURS` and :data:`mfavbs.bench.PEERS`.
    out
        Folder of the results. Those that it already holds are not computed again.
    seeds
        Of the methods; the views are always drawn with seed 0.
    n_clusters
        k; by default the number of labels.
    data
        Folder where the data set lies.
    encoder, weights, image_size, grid, n_views, n_workers
        As in :func:`mfavbs.cluster_images`; not looked at where the source is a feature store.
    device
        Of the encoder and of mfavbs; the peers run on the CPU.
    verbose
        Show progress on stderr.

    Returns
    -------
    dict
        What ``bench.json`` holds: ``rows`` with the mean, the standard deviation and the worst of
        each method's scores, and what they are of.

    Raises
    ------
    MfavbsError
        A method or data set is unknown, there are no labels, or ``out`` holds results of other
        features, another k or other parameters.
    """
    out = user_path(out)
    names = list(dict.fromkeys(names))
    methods.check_methods(names)
    place = pick_device(device)
    opened, truth, size = _open(source, data)
    _check_ours(out)
    with alone_in(out):
        _begin(out)
        if isinstance(opened, StoreSource):
            store = opened.store
        else:
            store = embed(
                opened.images,
                out / FEATURES,
                load_encoder(encoder, weights=weights, image_size=image_size or size, grid=grid),
                n_views=n_views,
                n_workers=n_workers,
                device=device,
                verbose=verbose,
            )
        labels = [truth[key] for key in store.keys]
        k = len(set(labels)) if n_clusters is None else n_clusters
        if not 2 <= k <= len(labels):
            raise SourceError(f"n_clusters={k} should be in 2..{len(labels)}, the images")
        about = {"features": _identity(store, labels), "n_clusters": k}
        abouts = {name: about | {"parameters": methods.parameters_of(name)} for name in names}
        found = {
            name: {s: r for s in seeds if (r := _read(out, name, s, abouts[name]))}
            for name in names
        }
        errors = _run_missing(found, abouts, seeds, store.path, labels, out, place, verbose)
        results = [result for name in names for result in found[name].values()]
        summary = {
            "source": user_path(source).name,
            "shape": list(store.features.shape),
            "n_failures": len(store.failures),
            "n_labels": len(set(labels)),
            **about,
            "seeds": list(seeds),
            "machines": sorted({result["machine"] for result in results}),
            "rows": [row_of(name, list(found[name].values()), errors.get(name)) for name in names],
        }
        try:
            write_tables(out, summary)
        except OSError as error:
            raise unwritable(out, error) from error
    return summary


def _open(
    source: str | Path, data: str | Path | None
) -> tuple[ImageSource | StoreSource, dict[str, str], int | None]:
    """Images or their features; the label of every key; the image size that a data set asks for."""
    if not user_path(source).exists():
        if str(source) not in DATASETS:
            raise SourceError(
                f"{source} does not exist, and no data set has that name; expected a path or one "
                f"of {', '.join(DATASETS)}."
            )
        found = open_dataset(str(source), data or ".")
        truth = dict(zip(found.images.keys, found.labels, strict=True))
        return ImageSource(found.images), truth, found.image_size
    opened = open_source(source)
    labels = opened.folders
    if isinstance(opened, ArraySource) or labels is None:
        raise SourceError(
            f"{source} has no labels to score against; expected images in a sub-folder for each "
            "label, or a feature store of such images."
        )
    return opened, dict(zip(opened.keys, labels, strict=True)), None


def _check_ours(out: Path) -> None:
    """Refuse a folder with something that no bench has written."""
    try:
        ours = (out / RESULTS).is_dir()
        if not ours and not holds_only(out, []):
            raise RunError(
                f"{out} exists and is not the folder of a bench, so nothing is written into it. "
                "Give another out=."
            )
    except OSError as error:
        raise unwritable(out, error) from error


def _begin(out: Path) -> None:
    _check_ours(out)
    try:
        (out / RESULTS).mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error


def _identity(store: FeatureStore, labels: list[str]) -> dict[str, Any]:
    """What decides the features and the truth, wherever the store lies."""
    images = hashlib.blake2b(digest_size=8)
    for content, label in zip(store.manifest["hash"].to_pylist(), labels, strict=True):
        images.update(f"{content}\0{label}\n".encode())
    return store.recipe | {"images": images.hexdigest()}


def _read(out: Path, name: str, seed: int, about: dict[str, Any]) -> dict[str, Any] | None:
    """A result of an earlier call; raises `RunError` if it is about something else."""
    path = out / RESULTS / f"{name}-{seed}.json"
    result = read_json(path)
    if result is None:
        return None
    try:
        before, now = _flat(result), _flat(json.loads(json.dumps(about)))
    except (KeyError, TypeError) as error:
        raise RunError(f"{path} is not a result of a bench ({error!r}); remove it") from error
    for key in now | before:
        if before.get(key) != now.get(key):
            raise RunError(
                f"{path} was made with {key}={before.get(key)!r}, now {key}={now.get(key)!r} is "
                "asked for; give another out=, or remove it"
            )
    return result


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    return {
        **about["features"],
        "n_clusters": about["n_clusters"],
        **about["parameters"],
    }


def _run_missing(
    found: dict[str, dict[int, dict]],
    abouts: dict[str, dict],
    seeds: Sequence[int],
    store: Path,
    labels: list[str],
    out: Path,
    device: torch.device,
    verbose: bool,
) -> dict[str, str]:
    """Add to ``found`` the results of the seeds that it lacks; return why a method failed."""
    errors = {}
    n_done = sum(map(len, found.values()))
    with Progress("bench", len(found) * len(seeds), "trials", n_done, show=verbose) as progress:
        for name, about in abouts.items():
            for seed in (seed for seed in seeds if seed not in found[name]):
                progress.advance(0, f"{name}, seed {seed}")
                log = out / RESULTS / f"{name}-{seed}.log"
                try:
                    answer = run_trial(store, name, about["n_clusters"], seed, str(device), log)
                except TrialError as error:
                    errors[name] = f"seed {seed}: {error}"
                    break  # what fails with one seed fails with the next
                found[name][seed] = _write(out, name, seed, about, labels, answer, device)
                progress.advance(1, f"{name}, seed {seed}")
    return errors


def _write(
    out: Path,
    name: str,
    seed: int,
    about: dict[str, Any],
    labels: list[str],
    answer: dict[str, Any],
    device: torch.device,
) -> dict[str, Any]:
    clusters = answer.pop("labels")
    result = {
        "method": name,
        "seed": seed,
        "scores": {**score(labels, clusters), "purity": purity(labels, clusters)},
        **answer,
        **about,
        "machine": machine(device),
        "version": __version__,
    }
    try:
        write_json(out / RESULTS / f"{name}-{seed}.json", result)
    except OSError as error:
        raise unwritable(out, error) from error
    return result


def machine(device: torch.device) -> str:
    """The machine that the seconds are of, in words."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # Linux, where Python knows no more than "x86_64"
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            cpu = line.partition(": ")[2] if line.startswith("model name") else cpu
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cores = f"cores: {os.cpu_count()}, threads: {torch.get_num_threads()}"
    return f"{cpu}, {cores}, {'no GPU' if gpu == 'cpu' else gpu}"
