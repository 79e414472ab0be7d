"""The map: seconds, and how much of what is near is near on it.

    python benchmarks/insight_map.py STORE [--fitted 1000 4000 10000]

For each size of the sample: seconds of the map; trustworthiness at 10 neighbours (Venna and Kaski,
2001), of 2,000 images; and the share of images whose label most of their 10 nearest ones have, on
the map and in the embeddings that it is of, where the store has labels.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.manifold import trustworthiness
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from mfavbs import FeatureStore
from mfavbs.insight import map_images
from mfavbs.model import fit_projection, unit


def embeddings_of(features: np.ndarray) -> np.ndarray:
    """Mean of an image's projected views, as a run has them."""
    mean, components = fit_projection(features, 128, torch.Generator().manual_seed(0))
    parts = [
        torch.nn.functional.normalize(
            ((unit(part[:, :, 0]) - mean[0]) @ components).mean(1), dim=1
        ).numpy()
        for part in np.array_split(features, -(-len(features) // 2048))
    ]
    return np.concatenate(parts)


def agreement(x: np.ndarray, labels: np.ndarray) -> float:
    return float(cross_val_score(KNeighborsClassifier(10), x, labels, cv=5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--fitted", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--steps", type=int, nargs="+", default=[500])
    args = parser.parse_args()

    store = FeatureStore.open(args.store)
    x = embeddings_of(store.features)
    labels = None if store.labels is None else np.array(store.labels)
    some = np.random.default_rng(0).choice(len(x), min(2000, len(x)), replace=False)
    if labels is not None:
        print(f"label of the neighbours in the embeddings: {agreement(x, labels):.3f}\n")
    print(f"{len(x):,} images\n\n| sample | steps | seconds | trustworthiness | label |")
    print("|---|---|---|---|---|")
    for fitted in args.fitted:
        for steps in args.steps:
            began = time.perf_counter()
            points = map_images(x, fitted=fitted, steps=steps)
            seconds = time.perf_counter() - began
            trusted = trustworthiness(x[some], points[some], n_neighbors=10, metric="cosine")
            label = "" if labels is None else f"{agreement(points, labels):.3f}"
            row = f"| {fitted:,} | {steps} | {seconds:.1f} | {trusted:.3f} | {label} |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
