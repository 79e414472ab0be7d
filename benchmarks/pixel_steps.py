"""Steps of training from pixels: what drawing the views costs, and what memory they take.

In: nothing; pixels, crops and features are made up and lie on the disk. Out: a JSON line. Figures:
docs/performance.md.

    OMP_NUM_THREADS=1 python benchmarks/pixel_steps.py --images 10000
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mfavbs.devices import pick_device
from mfavbs.images import Views, replay_crops
from mfavbs.memory import peak_memory_mib
from mfavbs.model import PixelNetwork, PixelViews
from mfavbs.model.pixel_training import _LARGEST_GRADIENT, _optimizer, _two_views
from mfavbs.model.training import N_PAIRS, draw_epoch, make_step

N_VIEWS, WIDTH, K, BATCH, PART = 5, 1280, 10, 128, 1000
_FIRST = 5  # steps in which things are set up, and on a GPU the step is recorded


def written(path: Path, n: int, shape: tuple[int, ...], part: Callable[[], np.ndarray]) -> None:
    """An array (n, ...) on the disk, made a part at a time."""
    kind = part().dtype.newbyteorder("<").str
    with path.open("wb") as file:
        header = {"descr": kind, "fortran_order": False, "shape": (n, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n, PART):
            file.write(part()[: n - start].tobytes())


def made_up(folder: Path, n: int, size: int) -> list[np.ndarray]:
    """Pixels (n, S, S, 3), crops (n, v, m), features (n, v, 1, f), memory-mapped."""
    rng = np.random.default_rng(0)
    names = [f"{row:016x}" for row in range(PART)]
    crops = replay_crops(Views(size, N_VIEWS, 0), names, 2 * size, size)
    square = (2 * size, 2 * size, 3)
    written(folder / "a", n, square, lambda: rng.integers(0, 256, (PART, *square), np.uint8))
    written(folder / "b", n, crops.shape[1:], lambda: crops)
    feature = (N_VIEWS, 1, WIDTH)
    written(folder / "c", n, feature, lambda: rng.normal(size=(PART, *feature)).astype(np.float16))
    return [np.load(folder / name, mmap_mode="r") for name in "abc"]


def memory() -> dict[str, float]:
    """MiB: of this process's own, of files mapped into it, and the most of both so far."""
    found = {"peak": peak_memory_mib()}
    status = Path("/proc/self/status")
    if status.exists():
        text = status.read_text()
        for name, word in (("own", "RssAnon:"), ("mapped", "RssFile:")):
            found[name] = int(text.split(word)[1].split()[0]) / 2**10
    return {name: round(value) for name, value in found.items()}


def step_seconds(
    network: PixelNetwork, views: PixelViews, batch_size: int, n_steps: int
) -> tuple[float, float]:
    """Seconds of a training step of the disjoint objective: on ready views, and drawn anew.

    A step sees four views of each of ``batch_size`` images.
    """
    device, n = network.device, len(views)
    generator = torch.Generator(device).manual_seed(0)
    colours = torch.Generator().manual_seed(0)
    optimizer, faster = _optimizer(network)
    options = {"views": _two_views, "largest_gradient": _LARGEST_GRADIENT}
    step = make_step(network, optimizer, faster, N_PAIRS["disjoint"], 0.0, 0.1, **options)
    rate = torch.tensor(1e-3, device=device)
    contrasted = torch.arange(network.n_clusters, device=device)
    neighbours = torch.randint(n, (n, 10), generator=generator, device=device)
    n_batches = -(-n // batch_size)
    pairs = draw_epoch("disjoint", neighbours, views.n_views, n_batches, generator).cpu()
    network.train()

    def drawn(i: int) -> tuple[torch.Tensor, ...]:
        image, *which = pairs[i % len(pairs)]
        a, b = views.pair(image, (which[0], which[1]), "default", 0.1, colours)
        return (*a, *b)

    def seconds(batch: Callable[[int], tuple[torch.Tensor, ...]]) -> float:
        for i in range(_FIRST):
            step(rate, contrasted, *batch(i))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for i in range(_FIRST, _FIRST + n_steps):
            losses = step(rate, contrasted, *batch(i))
        losses.tolist()  # waits for the device
        return (time.perf_counter() - start) / n_steps

    ready = drawn(0)
    return seconds(lambda i: ready), seconds(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device, size = pick_device(args.device), args.image_size
    network = PixelNetwork(
        *(K, 8, args.dim),
        image_size=size,
        anchor_widths=[WIDTH],
        fusion="token",
        gate=1e-3,
    ).to(device)
    with tempfile.TemporaryDirectory() as folder:
        views = PixelViews(*made_up(Path(folder), args.images, size), size, device)
        bare, whole = step_seconds(network, views, BATCH, args.steps)
    line = {"images": args.images, "image_size": size, "dim": args.dim, "device": str(device)}
    line |= {"step_ms": round(1000 * whole, 1), "bare_step_ms": round(1000 * bare, 1)}
    line |= {"ratio": round(bare / whole, 3), "views_s": round(4 * BATCH / whole)}
    print(json.dumps(line | memory()))


if __name__ == "__main__":
    main()
