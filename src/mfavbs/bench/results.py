"""The results of a bench on disk, one for each method and seed.

In: the clusters that a trial found, and the labels known.
Out: ``results/METHOD-SEED.parquet``, one row for each image with its path, label and cluster; then
``results/METHOD-SEED.json``, the scores, with all that they are of.
"""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs import __version__
from mfavbs.errors import RunError
from mfavbs.features import FeatureStore
from mfavbs.files import holds_only, read_json, write_json, write_whole
from mfavbs.runs import unwritable

if TYPE_CHECKING:
    import torch

RESULTS = "results"


def check_folder(out: Path) -> None:
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


def begin_results(out: Path) -> None:
    """Make the folder of the results."""
    check_folder(out)
    try:
        (out / RESULTS).mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error


def identity(store: FeatureStore, labels: list[str]) -> dict[str, Any]:
    """What decides the features and the truth, wherever the store lies."""
    images = hashlib.blake2b(digest_size=8)
    for content, label in zip(store.manifest["hash"].to_pylist(), labels, strict=True):
        images.update(f"{content}\0{label}\n".encode())
    return store.recipe | {"contents": images.hexdigest()}


def read_result(out: Path, name: str, seed: int, about: dict[str, Any]) -> dict[str, Any] | None:
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


def write_result(
    out: Path,
    name: str,
    seed: int,
    about: dict[str, Any],
    truth: dict[str, str],
    answer: dict[str, Any],
    device: "torch.device",
) -> dict[str, Any]:
    """Write the clusters and, last, the scores of one trial.

    Parameters
    ----------
    out, name, seed
        The bench's folder, the method, its seed.
    about
        What the trial is of: the features, k, the method's parameters.
    truth
        Known label of every image, by its path, in the order of the features.
    answer
        What :func:`mfavbs.bench.trial.run_trial` returned.
    device
        Where it ran.

    Returns
    -------
    dict
        What the JSON file holds.
    """
    from mfavbs.metrics import purity, score

    clusters = np.asarray(answer["labels"])
    labels = list(truth.values())
    result = {
        "method": name,
        "seed": seed,
        "scores": {**score(labels, clusters), "purity": purity(labels, clusters)},
        **{key: value for key, value in answer.items() if key != "labels"},
        **about,
        "machine": machine(device),
        "version": __version__,
    }
    table = pa.table({"path": list(truth), "label": labels, "cluster": clusters.astype(np.int32)})
    path = out / RESULTS / f"{name}-{seed}.parquet"
    try:
        write_whole(path, lambda file: pq.write_table(table, file))
        write_json(path.with_suffix(".json"), result)
    except OSError as error:
        raise unwritable(out, error) from error
    return result


def machine(device: "torch.device") -> str:
    """The machine that the seconds are of, in words."""
    import torch

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # Linux, where Python knows no more than "x86_64"
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            cpu = line.partition(": ")[2] if line.startswith("model name") else cpu
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cores = f"cores: {os.cpu_count()}, threads: {torch.get_num_threads()}"
    return f"{cpu}, {cores}, {'no GPU' if gpu == 'cpu' else gpu}"
