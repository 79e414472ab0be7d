"""Whether new images belong to the clusters of a run, and whether all of them are like its own.

In: features of new images, their probabilities (n, k), what the run keeps to compare them with.
Out: clusters (n,), columns for labels.parquet, the content of insight.json.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from mfavbs import runs
from mfavbs.sources import Features

if TYPE_CHECKING:
    from mfavbs.insight import Reference
    from mfavbs.model import MFAVBsClustering

NONE = -1  # the cluster of an image that belongs to none
_SURE = 0.01  # p-value at which a folder counts as different
_MANY = 0.1  # share of images as strange as 5 % of the run's, to be told
_NOTHING_KEPT = (
    "The run keeps nothing that new images could be compared with, so every one has a cluster. "
    "`mfavbs report RUN` makes what it lacks, where its features are still there."
)


class Judged(NamedTuple):
    """What is found of new images.

    Attributes
    ----------
    clusters
        (n,), -1 for those of none.
    columns
        (n,) each, by their names in labels.parquet.
    insight
        The content of insight.json.
    """

    clusters: np.ndarray
    columns: dict[str, pa.Array]
    insight: dict[str, Any]


def judge(
    run: Path,
    model: "MFAVBsClustering | None",
    features: Features,
    probabilities: np.ndarray,
    none_rate: float | None,
) -> Judged:
    """Set new images against those of a run.

    Parameters
    ----------
    run
        The run folder.
    model
        The run's, that sees features; None where it has none.
    features
        Of the new images.
    probabilities
        (n, k).
    none_rate
        Images whose p-value is no more than that belong to no cluster.
    """
    clusters = probabilities.argmax(axis=1)
    kept = runs.read_reference(run)
    if not kept or model is None or not len(clusters):
        return Judged(clusters, {}, {})
    columns: dict[str, pa.Array] = {}
    insight: dict[str, Any] = {"schema": 1}
    seen, p, trust = how_sure(model, features.array, probabilities, kept)
    columns["outlier"] = pa.array(p, pa.float32())
    columns["trust"] = pa.array(trust)
    insight["drift"] = _drift(seen, clusters, p, kept, probabilities.shape[1])
    if none_rate is not None:
        none = p <= none_rate
        clusters = np.where(none, NONE, clusters)
        insight["none"] = {"rate": none_rate, "n": int(none.sum())}
    return Judged(clusters, columns, insight)


def how_sure(
    model: "MFAVBsClustering", array: np.ndarray, probabilities: np.ndarray, kept: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each new image as the encoder sees it, whether it belongs to the run's, how sure it is.

    Parameters
    ----------
    model, probabilities
        As in :func:`judge`.
    array
        (n, v, t, d) features of the new images.
    kept
        From :func:`mfavbs.runs.read_reference`.

    Returns
    -------
    tuple of ndarray
        (n, f) mean features, (n,) p-values of belonging to the run's images, in (0, 1], and (n,)
        the chance of the same cluster in a refit.
    """
    from mfavbs.insight import agreement, chance_of_same_cluster, heads_say, p_values, strangeness
    from mfavbs.model import look, mean_features

    reference = _reference(kept)
    seen = mean_features(model, array)
    p = p_values(strangeness(seen, reference), reference.strangeness)
    centres, clusters = kept["centres"], probabilities.argmax(axis=1)  # (b, k, d), (n,)
    agree = agreement(clusters, heads_say(look(model, array).embeddings, centres))
    trust = chance_of_same_cluster(
        clusters, probabilities, agree, len(centres), float(kept["agreement"][0])
    )
    return seen, p, trust


def _reference(kept: dict[str, np.ndarray]) -> "Reference":
    from mfavbs.insight import Reference

    return Reference(*(kept[name] for name in Reference._fields))


def _drift(
    seen: np.ndarray,
    clusters: np.ndarray,
    p: np.ndarray,
    kept: dict[str, np.ndarray],
    k: int,
) -> Any:
    """How all new images together differ from the run's."""
    from mfavbs.insight import find_drift

    reference = _reference(kept)
    return find_drift(seen, reference.features, clusters, reference.clusters, p, k)


def warnings_of(insight: dict[str, Any], none_rate: float | None) -> list[str]:
    """What a person must be told of new images as a whole, in sentences."""
    if not insight:
        return [] if none_rate is None else [_NOTHING_KEPT]
    drift = insight["drift"]
    if drift["p"] > _SURE:
        return []
    return [f"The new images differ from the run's (p = {drift['p']:.3f}){_what(drift)}."]


def _what(drift: dict[str, Any]) -> str:
    differs = [
        f"cluster {number} has {100 * now:.0f} % of them, and had {100 * before:.0f} %"
        for number, (now, before) in list(drift["clusters"].items())[:3]
    ]
    if drift["strange"] > _MANY:
        share = f"{100 * drift['strange']:.0f} %"
        differs.insert(0, f"{share} of them are as strange as the strangest 5 % of the run's")
    return ": " + "; ".join(differs) if differs else ""
