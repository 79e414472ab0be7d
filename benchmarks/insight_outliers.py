"""Outliers: one class of a set, in turn, mixed into the others as 5 % of all, and digits turned.

Command::

    python benchmarks/insight_outliers.py STORE [STORE ...]

Each STORE is a feature store whose images lie in folders of their classes. Of a class 5 % of all
are drawn, or all of it where it is smaller; of sets with more than 10 classes 10 are taken in turn.
The projection is fitted on the mixture, and all methods are given the same embeddings: the mean
view, 128 wide, of unit length. The number of classes is told to mfavbs, as it is that of a run's
clusters. Scores are AUROC, 0.5 being chance. The digits of scikit-learn are added: one in twenty of
them turned by 180 degrees, all of them and those that are others then (2, 3, 4, 5 and 7).
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from mfavbs.encoders import load_encoder
from mfavbs.features import FeatureStore, embed
from mfavbs.images import open_images
from mfavbs.insight import choose_others, oddness
from mfavbs.model import fit_projection, mean_view, unit

SHARE = 0.05
TURNS = 10  # classes that are taken in turn, at most
CHANGED = (2, 3, 4, 5, 7)


def embedded(features: np.ndarray) -> np.ndarray:
    mean, components = fit_projection(features, 128, torch.Generator().manual_seed(0))
    return mean_view((unit(features) - mean) @ components).numpy()


def mixtures(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows (m,) of each mixture, and which of them are outliers."""
    classes = np.unique(labels)
    rng = np.random.default_rng(0)
    if len(classes) > TURNS:
        classes = rng.choice(classes, TURNS, replace=False)
    found = []
    for name in classes:
        usual, odd = np.flatnonzero(labels != name), np.flatnonzero(labels == name)
        n_odd = min(len(odd), round(len(usual) * SHARE / (1 - SHARE)))
        rows = np.sort(np.r_[usual, rng.choice(odd, n_odd, replace=False)])
        found.append((rows, labels[rows] == name))
    return found


def scores(x: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """How odd each of (n, d) is, by each method."""
    n = len(x)
    distances = NearestNeighbors(n_neighbors=min(100, n - 1)).fit(x).kneighbors()[0]
    found = {"mfavbs": oddness(x, choose_others(x, k), np.arange(n)).max(0)}
    found |= {f"kNN distance, {m}": distances[:, :m].mean(1) for m in (10, 100)}
    for m in (20, 100):
        found[f"LOF, {m}"] = -LocalOutlierFactor(min(m, n - 1)).fit(x).negative_outlier_factor_
    found["isolation forest"] = -IsolationForest(random_state=0).fit(x).score_samples(x)
    return found


def turned_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, v, t, d), classes, and which digits are turned."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    odd = np.zeros(len(images), bool)
    odd[np.random.default_rng(0).choice(len(images), len(images) // 20, replace=False)] = True
    images[odd] = images[odd][:, ::-1, ::-1]
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_encoder("pixels", image_size=8)
        store = embed(open_images(images), Path(folder) / "digits", encoder, verbose=False)
        rows = np.array([int(key) for key in store.keys])
        return np.asarray(store.features[:]), digits.target[rows], odd[rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stores", nargs="+", type=Path, help="feature stores with labels")
    args = parser.parse_args()
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for path in args.stores:
        store = FeatureStore.open(path)
        labels = np.array(store.labels or load_digits().target[[int(key) for key in store.keys]])
        by_method = defaultdict(list)
        for rows, odd in mixtures(labels):
            x = embedded(np.asarray(store.features[rows]))
            for name, score in scores(x, len(np.unique(labels))).items():
                by_method[name].append(roc_auc_score(odd, score))
        for name, values in by_method.items():
            table[name][path.name] = float(np.mean(values))
    features, classes, odd = turned_digits()
    changed = np.isin(classes, CHANGED)
    means = {name: float(np.mean(list(row.values()))) for name, row in table.items()}
    for name, score in scores(embedded(features), 10).items():
        table[name] |= {"mean": means[name], "digits turned": roc_auc_score(odd, score)}
        table[name]["that change"] = roc_auc_score(odd[changed], score[changed])
    columns = list(next(iter(table.values())))
    print("| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name, row in sorted(table.items(), key=lambda item: -item[1]["mean"]):
        print(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")


if __name__ == "__main__":
    main()
