"""A cache of features that runs share: what two processes at once lose of it, and what it saves.

Command::

    python benchmarks/cache.py images.tar --encoder timm:mobilenetv2_100 \
        --weights mobilenetv2_100.safetensors --image-size 64

Two processes write the same 10,000 entries into one cache, one from the front and one from the
back, a few in each transaction, and fetch what they have written; then each entry is compared with
the truth. After that images are embedded three times: without a cache, into an empty one, and from
the full one into another folder.

Expect 0 entries wrong or lost. Measured on 2 busy cores, one thread, 2,000 images of CIFAR-10 by
MobileNetV2 at 64 px, 5 views: 48.7 s without a cache and 2.6 s from a full one; by processor time
of 500 images 4.7 s without, 4.1 s into an empty one, 0.12 s from the full one. The cache takes
1.02 times the bytes of the features.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mfavbs.encoders import load_encoder
from mfavbs.features import embed, list_cache
from mfavbs.features.cache import FeatureCache
from mfavbs.images import open_images

RECIPE = {"encoder": "none"}
SHAPE = (5, 1, 64)
IN_A_TRANSACTION = 20


def truth(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=SHAPE).astype(np.float16)


def fill(folder: Path, numbers: range) -> None:
    with FeatureCache.open(folder, RECIPE) as cache:
        for start in range(0, len(numbers), IN_A_TRANSACTION):
            some = numbers[start : start + IN_A_TRANSACTION]
            contents = [f"{number:032x}" for number in some]
            cache.put(contents, np.stack([truth(number) for number in some]), {})
            cache.flush()
            cache.get(contents)


def wrong_or_lost(folder: Path, n: int) -> tuple[int, int]:
    both = [
        multiprocessing.Process(target=fill, args=(folder, numbers))
        for numbers in (range(n), range(n - 1, -1, -1))
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert all(process.exitcode == 0 for process in both)
    with FeatureCache.open(folder, RECIPE) as cache:
        found = cache.get(f"{number:032x}" for number in range(n))
    wrong = sum(
        entry.features.tobytes() != truth(int(content, 16)).tobytes()
        for content, entry in found.items()
    )
    return wrong, n - len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder or tar of images")
    parser.add_argument("--encoder", default="timm:mobilenetv2_100")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=2000, help="how many of the source's images")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1, help="of torch in this process")
    parser.add_argument("--workers", type=int, default=0, help="processes that read")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        wrong, lost = wrong_or_lost(Path(folder, "both"), args.entries)
        seconds = time.perf_counter() - start
        print(
            f"two processes, {args.entries:,} entries: {wrong} wrong, {lost} lost ({seconds:.0f} s)"
        )

        images = open_images(args.source)
        step = max(1, len(images) // args.images)
        pixels = Path(folder, "images")
        for row in range(0, len(images), step)[: args.images]:
            path = pixels / images.keys[row]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.read(row))
        encoder = load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
        shared, before = Path(folder, "cache"), None
        for name, cache in (("without", "off"), ("empty", shared), ("full", shared)):
            start, start_cpu = time.perf_counter(), time.process_time()
            store = embed(
                open_images(pixels),
                Path(folder, name),
                encoder,
                cache=cache,
                n_workers=args.workers,
                verbose=False,
            )
            wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
            print(f"{len(store.keys):,} images, cache {name:8} {wall:8.2f} s, cpu {cpu:8.2f} s")
            features = np.asarray(store.features)
            assert before is None or (features == before).all()
            before = features
        (file,) = list_cache(shared)
        print(f"bytes of the cache over those of the features: {file.n_bytes / before.nbytes:.3f}")


if __name__ == "__main__":
    main()
