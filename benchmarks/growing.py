"""How time and memory of everything after extraction grow with the number of images.

Commands::

    python benchmarks/growing.py -n 10000 100000 1000000 --memory 3G
    python benchmarks/growing.py -n 1000000 --width 512 --views 1 --device cuda
    python benchmarks/growing.py --recall -n 1000000
    python benchmarks/growing.py --store STORE --seeds 2 --like 60000

Features are made: classes with groups in them, along fewer directions than the features have, and
views that differ from their image. Each size is one process, which writes a whole run but its map.
Every line printed is a JSON object: seconds and peak memory of each stage, at the end the exponent
of the time between the first and the last size. ``--recall`` asks how many of the exact ten nearest
are found. ``--store`` clusters a feature store of labelled images with the memory bound at its
lowest and without one. What was measured, and when, stands in docs/performance.md.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

GROUPS = 8  # in each class
DIRECTIONS = 32  # of the differences between images of a group
CHUNK = 20_000
QUERIES = 1_000


def make_features(path: Path, n: int, args: argparse.Namespace) -> np.ndarray:
    """Write features (n, v, 1, f) float16 to a .npy; the class of each image."""
    device = torch.device(args.device)
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    f = args.width
    classes = normal(args.k, f)
    groups = classes[:, None] + 0.6 * normal(args.k, GROUPS, f)  # (k, g, f)
    basis = normal(args.k, DIRECTIONS, f) / DIRECTIONS**0.5
    y = torch.randint(args.k, (n,), generator=generator, device=device)
    features = np.lib.format.open_memmap(path, "w+", np.float16, (n, args.views, 1, f))
    for rows in torch.arange(n, device=device).split(CHUNK):
        own = y[rows]
        group = torch.randint(GROUPS, own.shape, generator=generator, device=device)
        image = groups[own, group]
        for number in range(args.k):
            mine = torch.nonzero(own == number)[:, 0]
            image[mine] += normal(len(mine), DIRECTIONS) @ basis[number]
        image = image + 0.3 * normal(len(rows), f)
        views = image[:, None] + 0.5 * normal(len(rows), args.views, f)
        features[int(rows[0]) : int(rows[-1]) + 1, :, 0] = views.half().cpu().numpy()
    features.flush()
    return y.cpu().numpy()


def one_size(n: int, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak memory of each stage of a run of n images, features to report."""
    from mfavbs import cluster_images
    from mfavbs.metrics import score

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, out = Path(folder) / "features.npy", Path(folder) / "run"
        y = make_features(path, n, args)
        epochs = {} if args.epochs is None else {"epochs": args.epochs}
        start, cpu = time.perf_counter(), time.process_time()
        run = cluster_images(
            path,
            args.k,
            out=out,
            with_map=args.map,
            memory=args.memory,
            device=args.device,
            verbose=args.verbose,
            **epochs,
        )
        whole, cpu = time.perf_counter() - start, time.process_time() - cpu
        metrics = json.loads((out / "metrics.json").read_text())
    about = {name: getattr(args, name) for name in ("width", "views", "k", "memory", "device")}
    scores = {name: round(value, 4) for name, value in score(y, run.cluster).items()}
    taken = {name: metrics[name] for name in ("seconds", "peak_memory_mib", "stage_memory_mib")}
    about |= {"threads": torch.get_num_threads(), "epochs": len(metrics["losses"])}
    return {"n": n, **about, "whole": round(whole, 1), "cpu": round(cpu, 1), **scores, **taken}


def recall(n: int, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Share of the exact ten nearest of 1,000 images that are found, by the index's precision."""
    from mfavbs.model import fit_projection, mean_view, unit
    from mfavbs.model.neighbours import Neighbourhood

    rows = torch.arange(n).split(CHUNK)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_features(Path(folder) / "features.npy", n, args)
        features = np.load(Path(folder) / "features.npy", mmap_mode="r")
        mean, components = fit_projection(features, 128, torch.Generator().manual_seed(0))
        embeddings = torch.empty(n, 128)
        for part in rows:
            embeddings[part] = mean_view((unit(features[part]) - mean) @ components)
    asked = torch.randperm(n, generator=torch.Generator().manual_seed(1))[:QUERIES]
    similar = torch.cat([embeddings[asked] @ embeddings[part].T for part in rows], dim=1)
    exact = similar.topk(11, dim=1).indices[:, 1:]  # the first is the image itself
    for name, memory in (("float32", None), ("float16", 3 * n * 128), ("8 bits", n * 128)):
        start = time.process_time()
        neighbourhood = Neighbourhood(embeddings, memory)
        neighbourhood.nearest(embeddings[:1], 11)
        built, start = time.process_time() - start, time.process_time()
        near = neighbourhood.nearest(embeddings[asked], 11)[:, 1:]
        spent = time.process_time() - start
        share = float((near[:, :, None] == exact[:, None]).any(2).double().mean())
        found = {"n": n, "queries": QUERIES, "codes": name, "recall": round(share, 4)}
        yield found | {"build cpu s": round(built, 1), "query us": round(1e6 * spent / QUERIES)}


def lowest(store: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Scores of a store of labelled images, without a bound and at the lowest that is taken.

    With ``--like N`` what is held of each image has as little room as if there were N.
    """
    from mfavbs import MFAVBsClustering
    from mfavbs.errors import SourceError
    from mfavbs.features import FeatureStore
    from mfavbs.metrics import score
    from mfavbs.model import check_memory

    opened = FeatureStore.open(store)
    features, labels = opened.features[:, : args.views], opened.labels
    k = len(set(labels))
    least = 2**20
    while True:  # MiB by MiB
        try:
            check_memory(MFAVBsClustering(k, memory=least))
            break
        except SourceError:
            least += 2**20
    for memory in (None, least):
        if memory and args.like:
            shrink(len(labels) / args.like)
        for seed in range(args.seeds):
            model = MFAVBsClustering(k, random_state=seed, memory=memory, device=args.device)
            found = score(labels, model.fit(features).labels_)
            scores = {name: round(value, 4) for name, value in found.items()}
            about = {"store": store.name, "n": len(labels), "like": args.like, "memory": memory}
            yield about | {"seed": seed, **scores}


def shrink(times: float) -> None:
    """Make the shares of the bound that go to what is held of all images smaller."""
    from mfavbs.model import answers, fitting, neighbours, room

    for module in (answers, fitting, room):
        for name in ("TOKENS", "EMBEDDINGS", "INDEX", "ANSWERS"):
            if hasattr(module, name):
                setattr(module, name, times * getattr(module, name))
    neighbours._EXACT_ELSEWHERE = int(times * neighbours._EXACT_ELSEWHERE)


def exponent(found: list[dict[str, Any]], name: str) -> float:
    """Of the growth between the first and the last size."""
    first, last = found[0], found[-1]
    return math.log(last[name] / first[name]) / math.log(last["n"] / first["n"])


def in_own_process(n: int) -> dict[str, Any]:
    """A size with the same arguments, in a process that nothing was held in before."""
    command = [sys.executable, *sys.argv, "--here", str(n)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, help="fewer than the default, to save time")
    parser.add_argument("--folder", help="where features and runs are made; removed at the end")
    parser.add_argument("--map", action="store_true")
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--like", type=int, help="images that the lowest bound is tried as for")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        print(json.dumps(one_size(args.here, args)))
    elif args.recall:
        for found in recall(args.n[-1], args):
            print(json.dumps(found), flush=True)
    elif args.store:
        for found in lowest(args.store, args):
            print(json.dumps(found), flush=True)
    else:
        sizes = [in_own_process(n) for n in args.n]
        if len(sizes) > 1:
            grown = {name: round(exponent(sizes, name), 3) for name in ("whole", "cpu")}
            print(json.dumps({"exponent": grown}))


if __name__ == "__main__":
    main()
