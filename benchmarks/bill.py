"""What clustering 10⁶ to 10⁹ images costs on nodes with a GPU and on CPU cores: Markdown tables.

Commands::

    python benchmarks/bill.py
    python benchmarks/bill.py --gpu-hour 4 --core-hour 0.03 --megabytes 500 --kilobytes 300
    python benchmarks/bill.py --answering 512

All images are encoded, a sample is trained on, the rest is answered by `mfavbs predict`. The rates
are measured, each where the comment beside it says. Prices, the size of an image and what a node
reads in a second are arguments, and their defaults are examples. ``--answering`` measures on this
machine how many images of features of that width one core answers.
"""

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

VIEWS = 5
LOOKS = 1038  # bytes an image in the store (docs/performance.md, "What the clusters say")


class Node(NamedTuple):
    """What one kind of machine does: images a second, each of 5 views, and seconds."""

    name: str
    cores: int
    gpus: int
    decode: float  # with nothing else to do
    encode: float  # of ready pictures; on a GPU with crops and colours
    embed: float  # from files: the two at once, and what lies between them
    width: int  # numbers in the feature of a view
    training: float | None  # seconds for a sample of 10⁶, without answers and questions
    answer: float  # from features to labels.parquet, by one core (--answering, a busy machine)


# docs/performance.md, "On a GPU": one H100, ViT-B/32 at 224 px, JPEGs of 500 px, 15 workers.
# Training is of "Growing" there: copies 4.4 s, neighbours 22.2, start and projection 3, and 4
# epochs of 5.5 each.
GPU = Node(
    "an H100 with 16 cores, ViT-B/32 at 224 px",
    cores=16,
    gpus=1,
    decode=23_400 / VIEWS,
    encode=21_800 / VIEWS,
    embed=10_300 / VIEWS,
    width=512,
    training=4.4 + 22.2 + 3 + 4 * 5.5,
    answer=1380,
)
# docs/performance.md, "Finding and decoding" (4.3 ms for 5 views) and "Encoding": one thread
# beside one worker.
CPU = Node(
    "two CPU cores, MobileNetV2 at 128 px",
    cores=2,
    gpus=0,
    decode=1 / 0.0043,
    encode=40.4,
    embed=34.2,
    width=1280,
    training=None,
    answer=1070,
)
HEAD = (
    *("images", "read", "decode, draw", "encode", "files to features", "train on the sample"),
    *("answer the rest", "machine hours", "features", "price"),
)


def row(node: Node, n: int, args: argparse.Namespace) -> list[str]:
    """Hours of one machine for each stage, in all, bytes of features, and the price."""
    read = n * args.kilobytes / 1e3 / args.megabytes
    decode, encode = n / node.decode, n / node.encode
    features = max(read, n / node.embed)  # what is read comes while others are encoded
    training = None if node.training is None else node.training * min(n, args.sample) / 1e6
    answer = max(0, n - args.sample) / node.answer
    hours = (features + (training or 0) + answer) / 3600
    price = args.gpu_hour if node.gpus else args.core_hour * node.cores
    stored = n * (VIEWS * node.width * 2 + LOOKS)
    stages = (read, decode, encode, features, training, answer)
    return [
        f"{n:,}",
        *("–" if seconds is None else number(seconds / 3600) for seconds in stages),
        number(hours),
        f"{stored / 1e9:,.0f} GB",
        f"{hours * price:,.0f}" if hours * price >= 10 else f"{hours * price:.2f}",
    ]


def number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def images_answered(width: int) -> float:
    """Images a second of processor time that `predict_images` answers, features to tables."""
    import numpy as np
    from growing import make_features

    from mfavbs import cluster_images, predict_images

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = SimpleNamespace(device="cpu", width=width, views=VIEWS, k=100)
        make_features(folder / "all.npy", 30_000, made)
        features = np.load(folder / "all.npy", mmap_mode="r")
        np.save(folder / "old.npy", features[:10_000])
        np.save(folder / "new.npy", features[10_000:])
        about = {"epochs": 1, "with_map": False, "verbose": False}
        cluster_images(folder / "old.npy", 100, out=folder / "run", **about)
        start = time.process_time()
        predict_images(folder / "run", folder / "new.npy", out=folder / "new", verbose=False)
        return 20_000 / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="price of a node with a GPU")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price of a CPU core")
    parser.add_argument("--megabytes", type=float, default=250.0, help="a node reads in a second")
    parser.add_argument("--kilobytes", type=float, default=100.0, help="of an image")
    parser.add_argument("--sample", type=int, default=10**6, help="images that are trained on")
    parser.add_argument("-n", type=int, nargs="+", default=[10**p for p in range(6, 10)])
    parser.add_argument("--answering", type=int, help="measure this, for features of that width")
    args = parser.parse_args()
    if args.answering:
        print(f"{images_answered(args.answering):,.0f} images a second of one core")
        return
    for node in (GPU, CPU):
        price = args.gpu_hour if node.gpus else args.core_hour * node.cores
        print(f"Hours of {node.name}, at {price:g} an hour:\n")
        print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
        for n in args.n:
            print("| " + " | ".join(row(node, n, args)) + " |")
        print()


if __name__ == "__main__":
    main()
