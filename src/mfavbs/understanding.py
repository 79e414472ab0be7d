"""What is asked of every clustering: how far to trust it, what does not belong, and so on.

In: features of n images, the fitted model, clusters (n,) and probabilities (n, k). Out: columns
for labels.parquet, the content of insight.json, hierarchy.json and map.parquet. Nothing is written.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mfavbs.duplicates import group_images
from mfavbs.memory import checked_memory, let_go
from mfavbs.progress import Progress, Stages
from mfavbs.sources import Features
from mfavbs.suggesting import Wish, suggest_names

if TYPE_CHECKING:
    from mfavbs.model import MFAVBsClustering, Room

SCHEMA = 1
MOST = 1_000  # images, or groups of them, that insight.json names
N_SHOWN = 18  # typical images of a cluster, and as many different ones


@dataclass(frozen=True)
class Evidence:
    """What the questions look at.

    Attributes
    ----------
    features
        Of all images, and where they are.
    model
        Fitted.
    embeddings
        (n, d) float32 of unit length.
    heads
        (h, n) cluster by each head, in that head's numbers.
    labels, probabilities
        (n,) and (n, k): the answer.
    seed
        Of all that is drawn.
    names
        What clusters are to be named by.
    verbose
        Whether a long step shows how far it is.
    room
        What may be held in memory.
    """

    features: Features
    model: "MFAVBsClustering"
    embeddings: np.ndarray
    heads: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    seed: int
    names: Wish
    verbose: bool
    room: "Room"

    @property
    def k(self) -> int:
        """Clusters asked for."""
        return self.probabilities.shape[1]

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """Projected tokens (m, v, t, d) float32 of some images."""
        from mfavbs.model import look_at_tokens

        return look_at_tokens(self.model, self.features.array, rows)


@dataclass
class Understood:
    """What the questions found.

    Attributes
    ----------
    columns
        (n,) each, by their names in labels.parquet.
    insight
        The content of insight.json, plain values; ``clusters`` has an object for each cluster.
    hierarchy
        The content of hierarchy.json, or None.
    map
        (n, 2) float32, or None.
    reference
        What new images are compared with, arrays by name, for reference.safetensors.
    """

    columns: dict[str, pa.Array] = field(default_factory=dict)
    insight: dict[str, Any] = field(default_factory=dict)
    hierarchy: dict[str, Any] | None = None
    map: np.ndarray | None = None
    reference: dict[str, np.ndarray] = field(default_factory=dict)

    def cluster(self, number: int) -> dict[str, Any]:
        """What insight.json says of one cluster, to be added to."""
        return self.insight["clusters"].setdefault(str(number), {})


def understand(
    features: Features,
    model: "MFAVBsClustering",
    labels: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
    stages: Stages,
    *,
    only: Collection[str] | None = None,
    before: Understood | None = None,
    skip: Collection[str] = (),
    names: Wish | None = None,
    verbose: bool = False,
    folder: Path | None = None,
) -> Understood:
    """Ask every question, or ``only`` those, of a clustering.

    Parameters
    ----------
    features
        What was clustered.
    model
        Fitted.
    labels, probabilities
        (n,) and (n, k).
    seed
        Of all that is drawn.
    stages
        Gains what each question took.
    before
        What was found before, to be added to.
    only, skip
        Names of :data:`QUESTIONS`, and which of them not to ask.
    names
        What clusters are to be named by; by default whatever there is.
    verbose
        Show progress on stderr.
    folder
        On whose disk lies what does not fit into the model's ``memory``.
    """
    from mfavbs.model import Room, look

    room = Room(checked_memory(model.memory), folder)
    asked = [name for name in QUESTIONS if name not in skip and (only is None or name in only)]
    found = before or Understood()
    known = found.insight.get("asked", [])
    found.insight |= {"schema": SCHEMA, "asked": [*dict.fromkeys([*known, *asked])]}
    found.insight.setdefault("clusters", {})
    with Progress("insight", len(asked) + 1, "questions", show=verbose) as progress:
        with stages.timed("insight: looking"):
            seen = look(model, features.array, room)
        evidence = Evidence(
            features, model, *seen, labels, probabilities, seed, names or Wish(), verbose, room
        )
        for number, size in enumerate(np.bincount(labels, minlength=evidence.k).tolist()):
            found.cluster(number)["size"] = size
        for name in asked:
            progress.advance(1, note=name)
            with stages.timed(f"insight: {name}"):
                QUESTIONS[name](evidence, found)
            let_go(evidence.embeddings)
            let_go(probabilities)
        progress.advance(1, note="")
    return found


def _trust(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import (
        agreement,
        chance_of_same_cluster,
        cluster_stability,
        heads_say,
        refit_heads,
    )

    labels, k = evidence.labels, evidence.k
    centres = refit_heads(evidence.embeddings, labels, k, evidence.seed)
    refits = heads_say(evidence.embeddings, centres)
    agree = agreement(labels, refits)  # (n,)
    trust = chance_of_same_cluster(
        labels, evidence.probabilities, agree, len(refits), float(agree.mean())
    )
    stability = cluster_stability(labels, refits, k)
    size = np.bincount(labels, minlength=k)
    mean = np.bincount(labels, trust, minlength=k) / np.maximum(size, 1)
    for number in np.flatnonzero(size).tolist():
        about = {"trust": round(float(mean[number]), 4)}
        about["stability"] = round(float(stability[number]), 4)
        found.cluster(number).update(about)
    found.columns["trust"] = pa.array(trust, pa.float32())
    found.insight["trust"] = {"mean": round(float(trust.mean()), 4), "n_refits": len(refits)}
    found.reference |= {"centres": centres, "agreement": np.array([agree.mean()], np.float32)}


def _outliers(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import choose_others, find_outliers, oddness, p_values

    embeddings, labels = evidence.embeddings, evidence.labels
    others = choose_others(embeddings, evidence.k)
    odd = oddness(embeddings, others, np.arange(len(labels)))  # (2, n)
    rows, apart = find_outliers(odd, embeddings, others, labels)
    found.columns["outlier"] = pa.array(p_values(odd.max(0)), pa.float32())
    found.insight["outliers"] = {"n": len(rows), "rows": rows[:MOST].tolist(), "apart": apart}
    for number in apart:
        found.cluster(number)["apart"] = True


def _copies(evidence: Evidence, found: Understood) -> None:
    group = group_images(evidence.features, evidence.embeddings, evidence.tokens, evidence.room)
    found.columns["copies"] = pa.array(group, pa.int32(), mask=group < 0)
    rows = np.flatnonzero(group >= 0)
    found.insight["copies"] = {
        "n_groups": int(group.max(initial=-1)) + 1,
        "n_images": len(rows),
        "by": "content" if evidence.features.looks is None else "content and picture",
    }


def _flags(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import FLAGS, flag_pictures

    looks, n = evidence.features.looks, len(evidence.labels)
    flags = [None] * n if looks is None else flag_pictures(looks)
    found.columns["flags"] = pa.array(flags, pa.list_(pa.string()))
    counts = {flag: sum(flag in (some or ()) for some in flags) for flag in FLAGS}
    found.insight["flags"] = {**counts, "not looked at": sum(some is None for some in flags)}


def _number(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import describe_number

    told = getattr(evidence.model, "number_", None)  # what was loaded has none
    found.insight["k"] = describe_number(evidence.embeddings, evidence.k, told, evidence.seed)


def _hierarchy(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import describe_tree

    leaf, tree = describe_tree(evidence.embeddings, evidence.labels, evidence.k, evidence.seed)
    found.columns["leaf"] = pa.array(leaf, pa.int32())
    found.hierarchy = tree
    for node in tree["nodes"]:  # the whole of a cluster comes after its parts
        if node["cluster"] is not None:
            found.cluster(node["cluster"])["came_back"] = node["came_back"]


def _faces(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import different_images, typical_images

    shown = (evidence.embeddings, evidence.labels, evidence.k)
    for name, look in (("typical", typical_images), ("different", different_images)):
        for number, rows in enumerate(look(*shown, N_SHOWN)):
            found.cluster(number)[name] = rows.tolist()


def _names(evidence: Evidence, found: Understood) -> None:
    names, about = suggest_names(
        evidence.features, evidence.labels, evidence.k, evidence.names, show=evidence.verbose
    )
    for number, words in enumerate(names):
        found.cluster(number)["names"] = words
    found.insight["names"] = about


def _map(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import map_images

    found.map = map_images(evidence.embeddings, seed=evidence.seed)


def _membership(evidence: Evidence, found: Understood) -> None:
    from mfavbs.insight import choose_rows, make_reference
    from mfavbs.model import mean_features

    rows = choose_rows(len(evidence.labels))
    features = mean_features(evidence.model, evidence.features.array, rows)
    reference = make_reference(features, evidence.labels[rows])
    found.reference |= reference._asdict()
    found.insight["membership"] = {"n": len(rows)}


# In the order in which they are asked; a later one may look at what an earlier one found. Each adds
# its own to `columns` and `insight`, and what of it holds for a cluster to `cluster(number)`.
QUESTIONS: dict[str, Callable[[Evidence, Understood], None]] = {
    "trust": _trust,
    "outliers": _outliers,
    "copies": _copies,
    "flags": _flags,
    "k": _number,
    "hierarchy": _hierarchy,
    "membership": _membership,
    "faces": _faces,
    "names": _names,
    "map": _map,
}
