"""New images that a run has not seen the like of: each by itself, and a folder of them.

    python benchmarks/insight_predict.py STORE... [--classes 10] [--draws 20]

Each STORE is a feature store whose images lie in folders by class; `digits` are scikit-learn's.

The first table leaves one class out of the run in turn, and a sixth of the other images: at a
stated rate of 5 %, how many of these are called none of the clusters, and how many of that class;
beside it the area under the ROC curve. The distance to the 5 nearest and scikit-learn's LOF have
the same features, and the run's own images, each without itself, for the rate.

The second table draws folders of 200 and 1,000 new images from the others, with 0, 10 and 20 % of a
class that was left out: how often the test of the whole says that they differ.

Labels divide the images, and are told to nothing that is measured.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from mfavbs.features import FeatureStore
from mfavbs.insight import make_reference, p_values, strangeness, two_sample_test
from mfavbs.model import unit

RATE = 0.05
SHARES = (0, 0.1, 0.2)
SIZES = (200, 1000)


def opened(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean features (n, f) of unit length and classes (n,)."""
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return F.normalize(torch.from_numpy(digits.data).float(), dim=-1).numpy(), digits.target
    store = FeatureStore.open(Path(name))
    parts = np.array_split(np.arange(len(store.keys)), max(1, len(store.keys) // 1000))
    views = [unit(store.features[part][:, :, 0]).mean(1) for part in parts]
    classes = np.unique([Path(key).parent.name for key in store.keys], return_inverse=True)[1]
    return F.normalize(torch.cat(views), dim=-1).numpy(), classes


def ours(run: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the run's images, each without itself, and of new ones."""
    reference = make_reference(run, np.zeros(len(run), int))
    return reference.strangeness, strangeness(new, reference)


def knn(run: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by the mean distance to the 5 nearest."""
    search = NearestNeighbors(n_neighbors=5, metric="cosine").fit(run)
    return search.kneighbors()[0].mean(1), search.kneighbors(new)[0].mean(1)


def lof(run: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by the local outlier factor."""
    model = LocalOutlierFactor(novelty=True).fit(run)
    return -model.negative_outlier_factor_, -model.score_samples(new)


METHODS = {"mfavbs": ours, "5 nearest": knn, "LOF": lof}


def left_out(x: np.ndarray, y: np.ndarray, n_classes: int) -> Iterator[tuple[str, list[float]]]:
    """By method and class: false alarms, found, area under the curve."""
    held = np.random.default_rng(0).integers(0, 6, len(x)) == 0
    for number in np.unique(y)[:n_classes]:
        run, alike, other = (y != number) & ~held, (y != number) & held, y == number
        new = np.concatenate([x[alike], x[other]])
        strange = np.repeat([False, True], [alike.sum(), other.sum()])
        for name, method in METHODS.items():
            own, scores = method(x[run], new)
            none = p_values(scores, own) <= RATE
            area = roc_auc_score(strange, scores)
            yield name, [none[~strange].mean(), none[strange].mean(), area]


def folders(
    x: np.ndarray, y: np.ndarray, n_draws: int
) -> Iterator[tuple[tuple[int, float], float]]:
    """By size and share of a class left out: the p-values of the test of the whole."""
    classes = np.unique(y)
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        others = rng.permutation(np.flatnonzero(y != classes[draw % len(classes)]))
        strange = rng.permutation(np.flatnonzero(y == classes[draw % len(classes)]))
        for size in SIZES:
            run, pool = others[:-size], others[-size:]
            for share in SHARES:
                n_strange = min(int(size * share), len(strange))
                new = np.concatenate([strange[:n_strange], pool[n_strange:]])
                yield (size, share), two_sample_test(x[new], x[run], seed=draw)


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    every: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    p: dict[tuple[int, float], list[float]] = {}
    print("| set | " + " | ".join(f"{name}: false, found, AUROC" for name in METHODS) + " |")
    print("|---|" + "---:|" * len(METHODS))
    for store in asked.stores:
        x, y = opened(store)
        found: dict[str, list[list[float]]] = {name: [] for name in METHODS}
        for name, figures in left_out(x, y, asked.classes):
            found[name].append(figures)
        for name in METHODS:
            every[name].append(np.mean(found[name], axis=0))
        row = [told(every[name][-1]) for name in METHODS]
        print(f"| {Path(store).name} | " + " | ".join(row) + " |", flush=True)
        for case, value in folders(x, y, asked.draws):
            p.setdefault(case, []).append(value)
        sys.stdout.flush()
    row = [told(np.mean(every[name], axis=0)) for name in METHODS]
    print("| **mean** | " + " | ".join(row) + " |\n")
    if not asked.draws:
        return
    print("| new images | of a class left out | differ at p = 0.05 | at p = 0.01 |")
    print("|---:|---:|---:|---:|")
    for (size, share), values in sorted(p.items()):
        rates = [np.mean(np.array(values) <= rate) for rate in (0.05, 0.01)]
        print(f"| {size} | {100 * share:.0f} % | {rates[0]:.2f} | {rates[1]:.2f} |")


def told(figures: np.ndarray) -> str:
    """False alarms and found in per cent, and the area."""
    return f"{100 * figures[0]:.1f} %, {100 * figures[1]:.0f} %, {figures[2]:.3f}"


if __name__ == "__main__":
    main()
