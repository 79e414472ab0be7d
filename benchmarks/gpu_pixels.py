"""Training from pixels on a GPU: how fast, and what comes of it in minutes.

In: a feature store, of 20,000 CIFAR-10 images say, and its images. Out: JSON lines. ``speed``: of
steps of several sizes the views a second, those on ready views beside them, and the share of the
card's rate of matrix products in bfloat16. ``training``: from the frozen start and from a random
one, scores of every epoch and the second at which it ended. Figures: docs/performance.md.

    python benchmarks/gpu_pixels.py --store STORE --images cifar20k.tar --out FILE
"""

import argparse
import json
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from gpu_table import rate
from pixel_runs import Set, opened, recorded
from pixel_steps import step_seconds
from torch.utils.flop_counter import FlopCounterMode

from mfavbs import MFAVBsClustering, score
from mfavbs.devices import pick_device
from mfavbs.model import EndToEnd, PixelNetwork, PixelViews, assign_pixels
from mfavbs.model.training import step_losses

SIZES = [(128, 128), (256, 128), (256, 512), (384, 512), (384, 1024)]  # width and batch
JUDGED = 5000  # images that an epoch is judged by, twice here


def built(data: Set, args: argparse.Namespace, dim: int, device: torch.device) -> PixelNetwork:
    return PixelNetwork(
        *(len(set(data.labels.tolist())), 8, dim),
        image_size=args.image_size,
        anchor_widths=data.blocks.tolist(),
        n_blocks=args.blocks,
        shared_depth=args.depth,
        fused_depth=args.depth,
        n_heads=dim // 32,
        fusion="token",
        gate=1e-3,
    ).to(device)


def flops(network: PixelNetwork, views: PixelViews, batch_size: int) -> int:
    """Of a step's products and attention, forward and backward."""
    image = torch.arange(2 * batch_size) % len(views)
    which = torch.zeros_like(image)
    a, b = views.pair(image, (which, which + 1), "none", 0.0, torch.Generator())
    with FlopCounterMode(display=False) as counter:
        _, cluster, balance = step_losses(network, a, b, 2, 0.0)
        (cluster + 0.1 * balance).mean().backward()
    network.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def speeds(data: Set, args: argparse.Namespace, device: torch.device) -> None:
    """A line for each size of a step; one that finds no memory says so."""
    size = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    most = rate(lambda: a @ b, 2 * size**3, device, 1.0)
    views = views_of(data, args, device)
    for dim, batch_size in args.sizes:
        about = {"kind": "speed", "dim": dim, "batch_size": batch_size, "blocks": args.blocks}
        try:
            say(args, about | speed(built(data, args, dim, device), views, batch_size, most, args))
        except RuntimeError as error:
            say(args, about | {"failed": str(error)[:300]})


def speed(
    network: PixelNetwork, views: PixelViews, batch_size: int, most: float, args: argparse.Namespace
) -> dict[str, Any]:
    n_flops = flops(network, views, batch_size)
    bare, whole = step_seconds(network, views, batch_size, args.steps)
    return {
        "matrix_tflops": round(most / 1e12, 1),
        "step_gflop": round(n_flops / 1e9),
        "step_ms": round(1e3 * whole, 2),
        "bare_step_ms": round(1e3 * bare, 2),
        "views_s": round(4 * batch_size / whole),
        "ratio": round(bare / whole, 3),
        "share": round(n_flops / whole / most, 4),
        "bare_share": round(n_flops / bare / most, 4),
    }


def views_of(data: Set, args: argparse.Namespace, device: torch.device) -> PixelViews:
    return PixelViews(data.pixels, data.crops, data.features, args.image_size, device)


def trained(
    data: Set, args: argparse.Namespace, start: str, device: torch.device
) -> dict[str, Any]:
    """One run that takes about as long as it may."""
    begun = time.perf_counter()
    k = len(set(data.labels.tolist()))
    frozen = MFAVBsClustering(k, dim=args.dim, random_state=0, device=args.device)
    frozen.fit(data.features)
    frozen_seconds = time.perf_counter() - begun
    network, views = built(data, args, args.dim, device), views_of(data, args, device)
    _, whole = step_seconds(network, views, args.batch_size, args.steps)
    begun = time.perf_counter()
    assign_pixels(network, views, rows=torch.arange(len(views))[:JUDGED].numpy())[1].tolist()
    judging = 2 * (time.perf_counter() - begun)
    n_steps = -(-len(views) // args.batch_size)
    epochs = max(1, int(60 * args.minutes / (n_steps * whole + judging)) - 1)
    del network, views
    model = EndToEnd(
        frozen=frozen,
        start=start,
        anchor_widths=data.blocks.tolist(),
        image_size=args.image_size,
        dim=args.dim,
        n_blocks=args.blocks,
        shared_depth=args.depth,
        fused_depth=args.depth,
        n_attention_heads=args.dim // 32,
        epochs=epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        device=args.device,
        verbose=True,
    )
    begun = time.perf_counter()
    with recorded(data.labels, weights=False) as record:
        model.fit(data.pixels, data.crops, data.features)
    seconds = time.perf_counter() - begun
    of_epochs = [entry["seconds"] for entry in record.epochs[1:]]
    n_seen = 4 * (len(data.pixels) // n_steps) * n_steps
    return {
        "kind": "training",
        "start": start,
        **{name: getattr(args, name) for name in ("dim", "batch_size", "blocks", "learning_rate")},
        "frozen": score(data.labels, frozen.labels_),
        "frozen_seconds": round(frozen_seconds, 1),
        **score(data.labels, model.labels_),
        "best_epoch": model.best_epoch_,
        "seconds": round(seconds, 1),
        "views_s": [round(n_seen / x) for x in of_epochs],
        "at": [round(x, 1) for x in accumulate(of_epochs)],
        "history": [
            {**{name: old[name] for name in ("head", "cluster") if name in old}, **new}
            for old, new in zip(model.history_, record.epochs, strict=True)
        ],
    }


def say(args: argparse.Namespace, line: dict[str, Any]) -> None:
    """Write it down, and show it without its epochs."""
    with args.out.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps({name: x for name, x in line.items() if name != "history"}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--images", required=True, help="source of the store")
    parser.add_argument("--most", type=int, default=20_000, help="images")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--depth", type=int, default=2, help="of both ViTs of a block")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--minutes", type=float, default=2.0, help="of each start")
    parser.add_argument("--starts", nargs="*", default=["frozen", "random"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--sizes", type=lambda x: tuple(map(int, x.split(","))), nargs="*")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--folder", type=Path, default=Path("pixels"), help="where pixels are kept")
    args = parser.parse_args()
    args.sizes = SIZES if args.sizes is None else args.sizes
    device = pick_device(args.device)
    data = opened(args.store, args.images, args.image_size, args.most, args.folder)
    speeds(data, args, device)
    for start in args.starts:
        say(args, trained(data, args, start, device))


if __name__ == "__main__":
    main()
