"""Small, uneven and fine-grained parts of a labelled feature store: does anything collapse?

Command::

    python benchmarks/robustness.py STORE --images 500
    python benchmarks/robustness.py STORE --uneven 400 40
    python benchmarks/robustness.py STORE --classes bird cat deer dog frog horse

Prints mean and worst ACC and mean NMI over the seeds, and the fewest clusters that had an image.
What to expect stands in docs/performance.md.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mfavbs import FeatureStore, score
from mfavbs.bench.methods import check_methods, cluster, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--images", type=int, help="keep so many, drawn at random")
    parser.add_argument("--uneven", type=int, nargs=2, help="images of the first and last class")
    parser.add_argument("--classes", nargs="+", help="keep these alone")
    parser.add_argument("--methods", nargs="+", default=["kmeans", "fusion-channel", "mfavbs"])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()

    check_methods(args.methods)
    store = FeatureStore.open(args.store)
    if store.labels is None:
        raise SystemExit("The images must lie in one folder for each label.")
    labels = np.array(store.labels)
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(np.isin(labels, args.classes)) if args.classes else np.arange(len(labels))
    if args.images:
        rows = rng.choice(rows, args.images, replace=False)
    if args.uneven:
        classes = np.unique(labels[rows])
        sizes = np.linspace(*args.uneven, len(classes)).round().astype(int)
        of_class = [
            rng.permutation(rows[labels[rows] == name])[:size] for name, size in zip(classes, sizes)
        ]
        rows = np.concatenate(of_class)
    rows = np.sort(rows)
    features, labels = np.asarray(store.features[rows]), labels[rows].tolist()
    k = len(set(labels))

    table = Table(title=f"{len(rows)} images, k={k}, {args.seeds} seeds")
    for column in ("method", "ACC", "worst", "NMI", "clusters found"):
        table.add_column(column)
    for method in args.methods:
        given = prepare(method, features)
        found = [cluster(method, given, k, seed, "auto") for seed in range(args.seeds)]
        scores = [score(labels, clusters) for clusters in found]
        acc, nmi = (np.array([s[name] for s in scores]) for name in ("acc", "nmi"))
        spread = (f"{x.mean():.3f} ± {x.std(ddof=1):.3f}" for x in (acc, nmi))
        fewest = min(len(np.unique(clusters)) for clusters in found)
        table.add_row(method, next(spread), f"{acc.min():.3f}", next(spread), str(fewest))
    Console().print(table)


if __name__ == "__main__":
    main()
