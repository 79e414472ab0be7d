"""A finished run applied to new images.

In: a run folder and a source. Out: clusters (n,) of the new images in a folder of their own.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mfavbs import runs
from mfavbs.devices import check_device
from mfavbs.encoders import Weights
from mfavbs.engines import check_engine, engine_of
from mfavbs.errors import RunError, SourceError
from mfavbs.files import holds_only, user_path, write_json
from mfavbs.judging import judge, warnings_of
from mfavbs.launching import leave_to_first_process
from mfavbs.locking import alone_in, check_alone
from mfavbs.memory import Memory, checked_memory
from mfavbs.runs import read_run
from mfavbs.sources import Source, open_source
from mfavbs.training import FROZEN, answer, check_trainable, load, load_looking


def predict_images(
    run: str | Path,
    source: Source,
    *,
    out: str | Path | None = None,
    exclude: Sequence[str] = (),
    weights: Weights = None,
    cache: str | Path | None = None,
    n_workers: int | None = None,
    device: str = "auto",
    engine: str = "local",
    ray_address: str | None = None,
    memory: Memory = None,
    none_rate: float | None = None,
    verbose: bool = True,
) -> Path:
    """Cluster new images with a finished run's network.

    Parameters
    ----------
    run
        A run folder.
    source
        As in :func:`cluster_images`, of the same kind as the run's own: images for a run of
        images, features for one of features.
    out
        Folder for labels.csv, labels.parquet and the tables of failures, warnings and what was
        left out; by default
        ``predictions/NAME`` in the run folder. Interrupted, the same call goes on with it.
    exclude
        Patterns of files and folders to leave out, as in :func:`mfavbs.open_images`.
    weights
        Where the encoder's weights lie now, if not where they lay for the run; of several
        encoders a list, in the run's order.
    cache, n_workers, device, engine, ray_address, memory, verbose
        As in :func:`cluster_images`.
    none_rate
        Between 0 and 1: so many of the images that are like the run's get no cluster, but -1, and
        the more of those that are not. By default every image gets a cluster. The p-value of
        belonging to the run's images is in the column ``outlier`` either way.

    Returns
    -------
    Path
        ``out``. Beside its tables there is insight.json: whether the new images as a whole differ
        from the run's, which is a warning, too.
    """
    check_device(device)
    check_engine(engine, ray_address, n_workers)
    leave_to_first_process()
    checked_memory(memory)
    if none_rate is not None and not 0 < none_rate < 1:
        raise SourceError(f"none_rate={none_rate} should be between 0 and 1; 0.05, for one.")
    run = user_path(run)
    record = read_run(run).record
    opened = open_source(source, exclude)
    out = user_path(out) if out is not None else run / "predictions" / opened.name
    trained = record["parameters"]
    check_trainable(trained.get("train", FROZEN), opened, None)
    parameters = encoder_parameters(record, weights)
    fitted = record["encoder"]
    if "weights_hash" not in fitted and opened.images is not None:
        raise SourceError(
            f"{run} was made from features, so it cannot encode images. Give it a .npy of features "
            "made in the same way."
        )
    about = {"run": str(run.resolve()), "source": opened.identity}
    _check_ours(out, about)
    check_alone(out)
    model = load(run / runs.MODEL, trained, device, memory)
    loaded = opened.load_encoder(parameters, fitted)  # before a folder is begun for its features
    with alone_in(out):
        try:
            _check_ours(out, about)
            write_json(out / runs.PREDICTION, about)
        except OSError as error:
            raise runs.unwritable(out, error) from error
        features = opened.features(
            out / runs.FEATURES,
            loaded,
            parameters,
            cache=cache,
            n_workers=n_workers,
            verbose=verbose,
            device=device,
            engine=engine_of(engine, ray_address),
        )
        probabilities = answer(model, features, out, trained, verbose)
        looking = load_looking(run / runs.MODEL, trained, device, memory)
        judged = judge(run, looking, features, probabilities, none_rate)
        answers = (judged.clusters, probabilities)
        runs.write_labels(out, features.keys, *answers, more=judged.columns)
        runs.write_tables(out, features.failures, features.skipped, features.notes)
        runs.write_insight(out, judged.insight)
    for sentence in warnings_of(judged.insight, none_rate):
        warnings.warn(sentence, stacklevel=2)
    return out


def encoder_parameters(record: dict[str, Any], weights: Weights = None) -> dict[str, Any]:
    """How the run's features were made, and so how those of new images are.

    Parameters
    ----------
    record
        The content of run.json.
    weights
        Where the encoder's weights lie now.
    """
    parameters = dict(record["parameters"])
    if weights is not None:
        parameters["weights"] = weights
    fitted = record["encoder"]
    if "weights_hash" in fitted:  # a run of a store has the store's views, not its own options'
        several = fitted.get("encoders")
        parameters["encoder"] = [e["encoder"] for e in several] if several else fitted["name"]
        parameters |= {k: fitted[k] for k in ("image_size", "grid", "n_views", "seed")}
        if several:
            parameters["image_size"] = [each["image_size"] for each in several]
        parameters["fit"] = fitted.get("fit")
        parameters["augment"] = fitted.get("augment", "default")
        # What was measured on the run's images holds for these as well.
        parameters["value_range"] = fitted.get("range", "type")
    return parameters


def _check_ours(out: Path, about: dict[str, str]) -> None:
    """Refuse a folder with something that no prediction of this run and source has written."""
    try:
        if holds_only(out, [runs.PREDICTION]) and not (out / runs.PREDICTION).exists():
            return
        ours = json.loads((out / runs.PREDICTION).read_bytes()) == about
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise RunError(
            f"{out} exists and is not a prediction of {about['run']} for {about['source']}. "
            "Give another out=."
        )
