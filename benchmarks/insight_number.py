"""How many clusters are found, against peers, and what it costs in ACC and NMI.

    python benchmarks/insight_number.py --stores DIR [--peers] [--fits] [--seeds 2]

DIR holds finished feature stores, one for each set and encoder, in folders called SET-ENCODER, of
images whose folders are their classes. Each set is counted whole, and as far as it has them with
3, 5, 20 and 50 of its classes, and with uneven classes (the smallest a tenth of the largest). The
figure of a set is the mean over all its cuts; that of a method is exp of the mean of
abs(log(found / true)) over the sets.
"""

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from mfavbs import MFAVBsClustering, score
from mfavbs.errors import SourceError
from mfavbs.features import FeatureStore
from mfavbs.model import find_number, fit_projection, kmeans, mean_view, unit

_LIMIT = 2000
_CLASSES = (3, 5, 20, 50)
_SMALLEST = 12
_ENOUGH = 10  # images of a class that may be drawn
_PEERS_MOST = 60  # clusters, of silhouette and X-means


def cuts(labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and rows of each part of a set that is counted."""
    k = int(labels.max()) + 1
    rng = np.random.default_rng(7)
    yield "all", rng.permutation(len(labels))[:_LIMIT]
    frequent = np.flatnonzero(np.bincount(labels) >= _ENOUGH)
    for wanted in _CLASSES:
        if wanted < k:
            some = rng.choice(frequent, min(wanted, len(frequent)), replace=False)
            yield f"{wanted}", np.flatnonzero(np.isin(labels, some))[:_LIMIT]
    if k == 10:
        rows = []
        for rank, label in enumerate(rng.permutation(k)):
            own = rng.permutation(np.flatnonzero(labels == label))
            rows.append(own[: max(_SMALLEST, int(len(own) * 0.1 ** (rank / (k - 1))))])
        yield "uneven", np.concatenate(rows)[:_LIMIT]


def embed(features: np.ndarray) -> np.ndarray:
    """(n, 128) of unit length, as a run has them."""
    mean, components = fit_projection(features, 128, torch.Generator().manual_seed(0))
    return mean_view((unit(features) - mean) @ components).numpy()


def ours(features: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    rows = np.arange(len(features))
    try:
        return find_number(features, rows, "auto", 128, seed)["best"]
    except SourceError:  # one group
        return 1


def silhouette(features: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    from sklearn.metrics import silhouette_score

    points = torch.from_numpy(embeddings)
    found = {}
    for k in range(2, min(_PEERS_MOST, len(points) // 4)):
        labels, inertia = kmeans(points, k, 2, seed)
        best = labels[inertia.argmin()].numpy()
        found[k] = silhouette_score(embeddings, best, metric="cosine", random_state=0)
    return max(found, key=found.__getitem__)


def x_means(features: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    """Spherical normal distributions of one width, by BIC (Pelleg and Moore, ICML 2000)."""
    points = torch.from_numpy(embeddings)
    n, d = points.shape
    found = {}
    for k in range(2, min(_PEERS_MOST, n // 4)):
        labels, inertia = kmeans(points, k, 2, seed)
        size = labels[inertia.argmin()].bincount(minlength=k).double()
        size = size[size > 0]
        width = float(inertia.min()) / (d * (n - k))
        likelihood = float((size * (size / n).log()).sum()) - n * d / 2 * np.log(width)
        found[k] = likelihood - k * (d + 1) / 2 * np.log(n)
    return max(found, key=found.__getitem__)


def evoc(features: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    from evoc import EVoC

    labels = EVoC(random_state=seed).fit_predict(unit(features[:, 0, 0]).numpy())
    return max(1, len(np.unique(labels[labels >= 0])))


def hdbscan(features: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    import umap
    from sklearn.cluster import HDBSCAN

    plane = umap.UMAP(metric="cosine", random_state=seed, n_jobs=1)
    labels = HDBSCAN(min_cluster_size=15, copy=True).fit_predict(plane.fit_transform(embeddings))
    return max(1, len(np.unique(labels[labels >= 0])))


PEERS = {"silhouette": silhouette, "X-means": x_means, "HDBSCAN on a map": hdbscan, "EVoC": evoc}


def fits(features: np.ndarray, labels: np.ndarray, found: int) -> tuple[float, float]:
    """ACC and NMI at the number found over those at the true number."""
    scores = [
        score(labels, MFAVBsClustering(k, random_state=0).fit_predict(features))
        for k in (found, int(labels.max()) + 1)
    ]
    return scores[0]["acc"] / scores[1]["acc"], scores[0]["nmi"] / scores[1]["nmi"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", type=Path, required=True)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--fits", action="store_true", help="ACC and NMI on imagenette and digits")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="*", help="folders' names begin with one of these")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    methods: dict[str, Callable[[np.ndarray, np.ndarray, int], int]] = {
        f"mfavbs, seed {seed}": lambda x, e, _, seed=seed: ours(x, e, seed)
        for seed in range(options.seeds)
    }
    methods |= PEERS if options.peers else {}
    errors: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
    print(f"| set | part | true | {' | '.join(methods)} |\n|" + "---|" * (3 + len(methods)))
    for folder in sorted(options.stores.iterdir()):
        if options.sets and not folder.name.startswith(tuple(options.sets)):
            continue
        store = FeatureStore.open(folder)
        names = store.labels or [key.split("/")[-2] for key in store.keys]
        labels = np.unique(names, return_inverse=True)[1]
        group = folder.name.rpartition("-")[0]
        for part, rows in cuts(labels):
            rows = np.sort(rows)
            features, own = store.features[rows], np.unique(labels[rows], return_inverse=True)[1]
            embeddings, true = embed(features), int(own.max()) + 1
            found = {name: count(features, embeddings, 0) for name, count in methods.items()}
            for name, k in found.items():
                errors[name].setdefault(group, []).append(abs(np.log(k / true)))
            print(f"| {folder.name} | {part} | {true} | {' | '.join(map(str, found.values()))} |")
            if options.fits and part == "all" and true == 10 and group.startswith(("im", "di")):
                ratios = fits(features, own, next(iter(found.values())))
                print(f"| | ACC, NMI over those at {true} | | {ratios[0]:.3f}, {ratios[1]:.3f} |")
    for group in next(iter(errors.values())):
        means = (f"{np.exp(np.mean(errors[name][group])):.2f}" for name in methods)
        print(f"| {group} | mean | | {' | '.join(means)} |")
    totals = (np.exp(np.mean([np.mean(x) for x in errors[name].values()])) for name in methods)
    print(f"| all | mean | | {' | '.join(f'{total:.3f}' for total in totals)} |")


if __name__ == "__main__":
    main()
