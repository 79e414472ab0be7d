"""Quality on one labelled set: this method, the paper's objective and k-means, same features.

Command, for the two sets of the README (features are made once, in --store, and found again)::

    python benchmarks/quality.py imagenette-val.tar --image-size 128 \
        --encoder timm:mobilenetv2_100 --weights mobilenetv2_100.safetensors
    python benchmarks/quality.py cifar10-test.tar --image-size 96 \
        --encoder timm:mobilenetv2_100 --weights mobilenetv2_100.safetensors

Prints mean, standard deviation and worst of ACC, NMI and ARI over the seeds, and the seconds of
training and labelling. What to expect, and on which machine, stands in docs/performance.md.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.cluster import KMeans

from mfavbs import FeatureStore, MFAVBsClustering, embed, load_encoder, open_images, score
from mfavbs.clustering import kmeans
from mfavbs.network import Network, mean_view


def kmeans_mean_view(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means on what our heads start from: centred, projected, averaged over the views."""
    import torch

    network = Network(features.shape[-1], features.shape[2], k)
    network.fit_projection(features, torch.Generator().manual_seed(seed))
    embeddings = mean_view(network.project(features)).numpy()
    return KMeans(k, n_init=10, random_state=seed).fit_predict(embeddings)


def ours(**parameters):
    def method(features: np.ndarray, k: int, seed: int) -> np.ndarray:
        return MFAVBsClustering(k, random_state=seed, **parameters).fit_predict(features)

    return method


METHODS = {
    "k-means, clean view": kmeans,
    "k-means, mean view": kmeans_mean_view,
    "mfavbs, objective paper": ours(objective="paper"),
    "mfavbs, fusion none": ours(fusion="none"),
    "mfavbs": ours(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--grid", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    name = arguments.source.name.split(".")[0]
    path = arguments.store or Path("out") / f"{name}-{arguments.image_size}-{arguments.grid}"
    encoder = load_encoder(
        arguments.encoder,
        weights=arguments.weights,
        image_size=arguments.image_size,
        grid=arguments.grid,
    )
    store = embed(open_images(arguments.source), path, encoder, n_views=arguments.views)
    measure(store, arguments.methods, arguments.seeds)


def measure(store: FeatureStore, methods: list[str], seeds: list[int]) -> None:
    labels = store.labels
    if labels is None:
        raise SystemExit("The images must lie in one folder for each label.")
    features = np.asarray(store.features)
    table = Table(title=f"{store.path.name}: {features.shape}, seeds {seeds}")
    for column in ("method", "ACC", "worst", "NMI", "ARI", "seconds"):
        table.add_column(column)
    for method in methods:
        results = []
        for seed in seeds:
            start = time.perf_counter()
            clusters = METHODS[method](features, len(set(labels)), seed)
            seconds = time.perf_counter() - start
            results.append({**score(labels, clusters), "seconds": seconds})
            print(json.dumps({"method": method, "seed": seed, **results[-1]}), flush=True)
        column = {key: np.array([r[key] for r in results]) for key in results[0]}
        cells = [f"{column[m].mean():.3f} ± {column[m].std():.3f}" for m in ("acc", "nmi", "ari")]
        worst = f"{column['acc'].min():.3f}"
        table.add_row(method, cells[0], worst, *cells[1:], f"{np.median(column['seconds']):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
