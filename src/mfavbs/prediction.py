"""A finished run applied to new images, or scored.

In: a run folder and a source, or known labels.
Out: clusters (n,) of the new images in a folder of their own; ACC, NMI and ARI.
"""

import json
from pathlib import Path

from mfavbs import runs
from mfavbs.errors import RunError, SourceError
from mfavbs.files import write_json
from mfavbs.metrics import score
from mfavbs.model import MFAVBsClustering
from mfavbs.runs import read_run
from mfavbs.sources import Source, open_source


def predict_images(
    run: str | Path,
    source: Source,
    *,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    n_workers: int | None = None,
    device: str = "auto",
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
        Folder for labels.csv, labels.parquet and failures.csv; by default
        ``predictions/NAME`` in the run folder. Interrupted, the same call goes on with it.
    weights
        Where the encoder's weights lie now, if not where they lay for the run.
    n_workers, device, verbose
        As in :func:`cluster_images`.

    Returns
    -------
    Path
        ``out``.
    """
    run = Path(run)
    record = read_run(run).record
    model = MFAVBsClustering.load(run / runs.MODEL, device)
    opened = open_source(source)
    out = Path(out) if out is not None else run / "predictions" / opened.name
    parameters = dict(record["parameters"])
    if weights is not None:
        parameters["weights"] = str(weights)
    fitted = record["encoder"]
    if "weights_hash" in fitted:  # a run of a store has the store's views, not its own options'
        parameters["encoder"] = fitted["name"]
        parameters |= {k: fitted[k] for k in ("image_size", "grid", "n_views", "seed")}
    elif opened.images is not None:
        raise SourceError(
            f"{run} was made from features, so it cannot encode images. Give it a .npy of features "
            "made in the same way."
        )
    _begin_prediction(out, run, opened.identity)
    features = opened.features(
        out / runs.FEATURES,
        parameters,
        n_workers=n_workers,
        verbose=verbose,
        device=device,
        fitted=fitted,
    )
    probabilities = model.predict_proba(features.array)
    runs.write_labels(
        out,
        features.keys,
        probabilities.argmax(axis=1),
        probabilities,
        failures=features.failures,
    )
    return out


def _begin_prediction(out: Path, run: Path, source: str) -> None:
    """Make ``out`` ready, unless something is there that no prediction of this run has written."""
    marker = out / "prediction.json"
    about = {"run": str(run.resolve()), "source": source}
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            try:
                ours = json.loads(marker.read_bytes()) == about
            except (OSError, ValueError):
                ours = False
            if not ours:
                raise RunError(
                    f"{out} exists and is not a prediction of {run} for {source}. "
                    "Give another --out."
                )
        out.mkdir(parents=True, exist_ok=True)
        write_json(marker, about)
    except OSError as error:
        raise runs.unwritable(out, error) from error


def evaluate_run(run: str | Path, truth: dict[str, str]) -> dict[str, float]:
    """ACC, NMI and ARI of a finished run against known labels by path.

    Raises
    ------
    RunError
        If a clustered image has no label in ``truth``.
    """
    read = read_run(Path(run))
    paths = read.path.to_pylist()
    missing = [path for path in paths if path not in truth]
    if missing:
        raise RunError(
            f"{len(missing)} of {len(paths)} images of {run} have no label in the truth given, "
            f"{missing[0]!r} the first. Expected one row `path,label` for each, with the paths "
            "of labels.csv."
        )
    return score([truth[path] for path in paths], read.cluster)
