"""How well confidence and stability say what they say: figures for docs/performance.md.

    python benchmarks/insight_trust.py STORE... --fits FOLDER

Each STORE is a feature store whose images lie in folders by class; `digits-pix` are scikit-learn's,
in their order. Fits are kept in FOLDER and not made again.

A quarter of the images is a run. Runs of the three other quarters, from other seeds, answer it as
well, matched one to one: that is how often an image really is in the same cluster. Calibration
error: images in ten groups of equal size by confidence, the mean difference between what is said
and what happened (12 pairs of runs). Against labels: the same with right and wrong, clusters
matched to classes. Errors: the share of them in the least trusted tenth, over a tenth.

At three clusters a class, of all images: Spearman's correlation over the clusters of their Jaccard
stability, and of their mean trust, with their purity. Labels score, and are told to nothing.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr
from sklearn.metrics.cluster import contingency_matrix

from mfavbs import FeatureStore, MFAVBsClustering
from mfavbs.insight import (
    agreement,
    chance_of_same_cluster,
    cluster_stability,
    heads_say,
    refit_heads,
)
from mfavbs.model import look
from mfavbs.runs import continue_numbers

PARTS = 4
GROUPS = 10


def opened(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, v, t, d) and classes (n,)."""
    store = FeatureStore.open(Path(name))
    if Path(name).name.startswith("digits"):
        from sklearn.datasets import load_digits

        return np.asarray(store.features), load_digits().target
    return np.asarray(store.features), np.unique(
        [Path(key).parent.name for key in store.keys], return_inverse=True
    )[1]


def fitted(
    folder: Path, x: np.ndarray, rows: np.ndarray, k: int, seed: int
) -> tuple[MFAVBsClustering, np.ndarray, np.ndarray]:
    """A model of some rows, kept in ``folder``; labels and probabilities of all."""
    if not (folder / "out.npz").exists():
        model = MFAVBsClustering(k, random_state=seed, device="cpu").fit(x[rows])
        model.save(folder)
        np.savez(folder / "out.npz", p=model.predict_proba(x))
    p = np.load(folder / "out.npz")["p"]
    return MFAVBsClustering.load(folder, "cpu"), p.argmax(1), p


def trusted(
    model: MFAVBsClustering, x: np.ndarray, labels: np.ndarray, p: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chance of the same cluster (n,) and Jaccard stability (k,), as a run has them."""
    embeddings = look(model, x).embeddings
    refits = heads_say(embeddings, refit_heads(embeddings, labels, k, 0))
    agree = agreement(labels, refits)
    chance = chance_of_same_cluster(labels, p, agree, len(refits), float(agree.mean()))
    return chance, cluster_stability(labels, refits, k)


def calibration_error(said: np.ndarray, happened: np.ndarray) -> float:
    """Mean difference over groups of equal size."""
    groups = np.array_split(np.argsort(said, kind="stable"), GROUPS)
    return sum(len(g) * abs(said[g].mean() - happened[g].mean()) for g in groups) / len(said)


def is_right(y: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Whether an image is of the class that its cluster is matched to."""
    table = contingency_matrix(np.r_[y, np.arange(k)], np.r_[labels, np.arange(k)])
    classes, clusters = linear_sum_assignment(table, maximize=True)
    return classes[np.argsort(clusters)][labels] == y


def of_runs(name: str, x: np.ndarray, y: np.ndarray, folder: Path) -> dict[str, float]:
    """The figures of runs of quarters."""
    k = len(np.unique(y))
    parts = np.array_split(np.random.default_rng(200).permutation(len(x)), PARTS)
    parts = [np.sort(part) for part in parts]
    runs = [fitted(folder / f"{name}-0-{i}", x, rows, k, i) for i, rows in enumerate(parts)]
    said, raw, same, right = [], [], [], []
    for i, rows in enumerate(parts):
        model, labels, p = runs[i][0], runs[i][1][rows], runs[i][2][rows]
        others = [runs[j][1][rows] for j in range(PARTS) if j != i]
        same.append(
            np.mean([continue_numbers(labels, o, k, k)[o] == labels for o in others], axis=0)
        )
        said.append(trusted(model, x[rows], labels, p, k)[0])
        raw.append(p.max(1))
        right.append(is_right(y[rows], labels, k))
    all_said, all_raw, all_same, all_right = map(np.concatenate, (said, raw, same, right))
    shares = []
    for chance, true in zip(said, right, strict=True):
        least = np.argsort(chance, kind="stable")[: len(chance) // 10]
        shares.append((~true[least]).mean() / max(1e-9, (~true).mean()))
    return {
        "same": all_same.mean(),
        "error": calibration_error(all_said, all_same),
        "raw error": calibration_error(all_raw, all_same),
        "labels": calibration_error(all_said, all_right),
        "raw labels": calibration_error(all_raw, all_right),
        "least": float(np.mean(shares)),
    }


def of_clusters(name: str, x: np.ndarray, y: np.ndarray, folder: Path) -> dict[str, float]:
    """The figures at three clusters a class."""
    k = 3 * len(np.unique(y))
    rows = np.arange(len(x))
    model, labels, p = fitted(folder / f"{name}-3k", x, rows, k, 0)
    chance, stability = trusted(model, x, labels, p, k)
    counts = np.zeros((k, y.max() + 1))
    np.add.at(counts, (labels, y), 1)
    size = counts.sum(1)
    full = size > 0
    purity = counts[full].max(1) / size[full]
    trust = (np.bincount(labels, chance, minlength=k) / np.maximum(size, 1))[full]
    return {
        "stability": float(spearmanr(stability[full], purity)[0]),
        "trust": float(spearmanr(trust, purity)[0]),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--fits", type=Path, required=True)
    parser.add_argument("--no-3k", action="store_true", help="leave out the last two columns")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    names = ["same", "error", "raw error", "labels", "raw labels", "least"]
    names += [] if asked.no_3k else ["stability", "trust"]
    print("| set | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
    rows = []
    for store in asked.stores:
        x, y = opened(store)
        name = Path(store).name
        row = of_runs(name, x, y, asked.fits)
        if not asked.no_3k:
            row |= of_clusters(name, x, y, asked.fits)
        rows.append(row)
        print(f"| {name} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |", flush=True)
    means = [np.mean([row[n] for row in rows]) for n in names]
    print("| **mean** | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
