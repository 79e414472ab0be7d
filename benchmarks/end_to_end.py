"""Whether training from pixels pays: from the frozen answer, without an anchor, as VTCC does.

In: feature stores and their images. Out: a JSON line for each set, method and seed, as soon as it
is known; run again, it goes on. Figures: docs/performance.md. One thread, as the tables have it:

    OMP_NUM_THREADS=1 python benchmarks/end_to_end.py --set rsscn7 STORE rsscn7.tar 64 --out FILE
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans

from mfavbs import FeatureStore, MFAVBsClustering, open_images, score
from mfavbs.features import store_pixels
from mfavbs.model import (
    EndToEnd,
    PixelNetwork,
    PixelViews,
    assign_pixels,
    average_with_neighbours,
    pixel_fitting,
)
from mfavbs.model.copies import find_copies
from mfavbs.model.head_selection import criterion
from mfavbs.model.neighbours import Neighbourhood

# Each with the parameters in which it differs; "vtcc" has no frozen run, so it has no anchor, no
# neighbours and nothing that judges its epochs. Without fusion the paper's objective is VTCC's.
METHODS: dict[str, dict[str, Any]] = {
    "anchor": {},
    "no anchor": {"anchor": False},
    "vtcc": {"frozen": None, "fusion": "none", "objective": "paper"},
    "random start": {"start": "random"},
    "channel fusion": {"fusion": "channel"},
    "no fusion": {"fusion": "none"},
    "paper objective": {"objective": "paper"},
    "anchor never withheld": {"anchor_drop": 0.0},
    "2 blocks": {"n_blocks": 2},
}


class Set(NamedTuple):
    """Some images: pixels (n, S, S, 3), crops (n, v, m), features (n, v, 1, f), labels (n,)."""

    pixels: np.ndarray
    crops: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    blocks: tuple[int, ...]


def opened(store: str, source: str, image_size: int, n: int, folder: Path) -> Set:
    """A part of a store's images, and their pixels, which are kept in ``folder``."""
    found = FeatureStore.open(store)
    pixels, crops = store_pixels(
        found, open_images(source), folder, edge=2 * image_size, image_size=image_size
    )
    rows = np.random.default_rng(0).permutation(len(found.keys))[:n]
    rows.sort()
    labels = np.unique(found.labels, return_inverse=True)[1]
    arrays = (np.asarray(array[rows]) for array in (pixels, crops, found.features))
    return Set(*arrays, labels[rows], found.blocks)


@contextlib.contextmanager
def told(labels: np.ndarray, seed: int) -> Iterator[list[dict[str, float]]]:
    """Of every epoch that is judged its NMI, and what else could choose among epochs.

    ``own`` and ``frozen`` are the criterion by the learned representations alone, and by the frozen
    features alone; ``refit`` the NMI between the answer and a k-means on the learned
    representations; ``confidence`` the mean of the answer's, ``views`` that before neighbours are
    asked.
    """
    found: list[dict[str, float]] = []
    before = pixel_fitting.judge_heads

    def judge(
        network: PixelNetwork,
        views: PixelViews,
        embeddings: torch.Tensor,
        rows: np.ndarray,
        balance_weight: float,
        averaged: bool,
    ) -> torch.Tensor:
        own, seen = assign_pixels(network, views, rows=rows)
        answer = own
        if averaged:
            answer = average_with_neighbours(own, seen, own.half(), Neighbourhood(seen))
        both = torch.cat([seen, embeddings[rows]], dim=1)
        chosen = criterion(answer, both, balance_weight)  # as judge_heads has it
        head = int(chosen.argmin())
        answer, own = answer[head : head + 1], own[head : head + 1]
        spaces = {"own": seen, "frozen": embeddings[rows]}
        entry = {name: float(criterion(answer, x, balance_weight)) for name, x in spaces.items()}
        y = answer[0].argmax(-1).cpu().numpy()
        k = answer.shape[-1]
        again = KMeans(k, n_init=3, random_state=seed).fit_predict(seen.cpu().numpy())
        entry["refit"] = score(y, again)["nmi"]
        entry["confidence"] = float(answer.max(-1).values.mean())
        entry["views"] = float(own.max(-1).values.mean())
        found.append({"nmi": score(labels, y)["nmi"], **entry})
        return chosen

    pixel_fitting.judge_heads = judge
    try:
        yield found
    finally:
        pixel_fitting.judge_heads = before


def trained(
    name: str, data: Set, frozen: MFAVBsClustering, options: dict[str, Any], path: Path
) -> dict[str, Any]:
    """What one method made of a set."""
    parameters = {"frozen": frozen, "anchor_widths": data.blocks, **options, **METHODS[name]}
    features = data.features
    if parameters["frozen"] is None:
        parameters |= {"n_clusters": frozen.n_clusters, "anchor_widths": None}
        features = None
    # An interrupted run would not know the scores of the epochs before.
    path.unlink(missing_ok=True)
    begun = time.perf_counter()
    with told(data.labels[find_copies(data.features)[0]], options["random_state"]) as seen:
        model = EndToEnd(**parameters).fit(data.pixels, data.crops, features, checkpoint=path)
    seconds = time.perf_counter() - begun
    path.unlink()
    history = [{"criterion": e["criterion"], **more} for e, more in zip(model.history_, seen)]
    answer = score(data.labels, model.labels_)
    return {
        **answer,
        "best_epoch": model.best_epoch_,
        "history": history,
        "seconds": round(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--set", nargs=4, action="append", metavar=("NAME", "STORE", "IMAGES", "PX")
    )
    parser.add_argument("--methods", default="anchor,vtcc,no anchor")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("end-to-end.jsonl"))
    args = parser.parse_args()
    done = []
    if args.out.exists():
        done = [json.loads(line) for line in args.out.read_text().splitlines()]
    asked = {name: getattr(args, name) for name in ("epochs", "dim", "learning_rate")}
    for seed in args.seeds:
        for name, store, source, size in args.set or []:
            folder = args.out.with_suffix(f".{name}-{size}")
            data = opened(store, source, int(size), args.images, folder)
            about = {"set": name, "image_size": int(size), "seed": seed, **asked}
            about["images"] = len(data.labels)
            k = len(set(data.labels.tolist()))
            frozen = MFAVBsClustering(k, dim=args.dim, random_state=seed).fit(data.features)
            options = {
                "image_size": int(size),
                "epochs": args.epochs,
                "dim": args.dim,
                "learning_rate": args.learning_rate,
                "shared_depth": 1,
                "fused_depth": 1,
                "random_state": seed,
                "verbose": True,
            }
            for method in ["frozen", *args.methods.split(",")]:
                which = about | {"method": method}
                if any(which.items() <= line.items() for line in done):
                    continue
                if method == "frozen":
                    found = score(data.labels, frozen.labels_)
                else:
                    found = trained(method, data, frozen, options, args.out.with_suffix(".pt"))
                line = which | found
                print(json.dumps(line), flush=True)
                with args.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
