"""How much of the encoder's own speed `mfavbs.embed` keeps: images a second, and their ratio.

Command::

    python benchmarks/embed.py /path/to/imagenette-val --encoder timm:mobilenetv2_100 \
        --weights ../shared/weights/mobilenetv2_100.safetensors --image-size 128

The bare encoder gets ready batches of the same size in the same process and with the same number
of threads; `embed` reads, decodes, augments, encodes and writes. Both take turns. The lines "cpu"
count this process' own processor time: what `embed` adds to the encoder where the workers have
cores of their own, even on a machine that is busy with other things.

Expect a ratio of 0.85 or more where the workers have a core of their own. Measured on 2 idle cores
of a Xeon with AVX-512, 400 images at 128 px, 5 runs, one thread and one worker: encoder 40.4 images
a second, embed 34.2, ratio by wall 0.86 (0.73 to 0.94), by cpu 0.93 (0.79 to 0.95).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from mfavbs.devices import pick_device
from mfavbs.encoders import Encoder, load_encoder
from mfavbs.features.embedding import batch_size, embed
from mfavbs.images import Images, decode, open_images
from mfavbs.images.views import Views


def ready_batches(images: Images, encoder: Encoder, n_views: int, step: int) -> list[torch.Tensor]:
    views = Views(
        encoder.image_size,
        n_views,
        0,
        augmentation=encoder.augmentation,
        framing=encoder.framing,
    )
    drawn = [
        views(decode(images.read(row), at_least=views.enough), key)
        for row, key in enumerate(images.keys)
    ]
    return [torch.cat(drawn[i : i + step]) for i in range(0, len(drawn), step)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder of images")
    parser.add_argument("--encoder", default="timm:mobilenetv2_100")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--images", type=int, default=256, help="how many of the source's images")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch in this process")
    parser.add_argument("--workers", type=int, help="processes that read; embed's own default")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    paths = sorted(path for path in args.source.rglob("*") if path.is_file())
    images = open_images(paths[:: max(1, len(paths) // args.images)][: args.images])
    encoder = load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
    encoder.to_device(pick_device(args.device))
    batches = ready_batches(images, encoder, args.views, batch_size(encoder, args.views))
    encoder(batches[0])

    def bare(run: int) -> None:
        for batch in batches:
            encoder(batch).cpu()

    def whole(run: int) -> None:
        options = {"n_views": args.views, "device": args.device, "n_workers": args.workers}
        embed(images, Path(folder) / str(run), encoder, **options, verbose=False)

    wall: dict[str, list[float]] = {"encoder": [], "embed": []}
    cpu: dict[str, list[float]] = {"encoder": [], "embed": []}
    with tempfile.TemporaryDirectory() as folder:
        whole(-1)  # the first call imports what it needs
        for run in range(args.runs):
            for name, step in (("encoder", bare), ("embed", whole)):
                start, start_cpu = time.perf_counter(), time.process_time()
                step(run)
                wall[name].append(len(images) / (time.perf_counter() - start))
                cpu[name].append(len(images) / (time.process_time() - start_cpu))
    print(f"{len(images)} images, {args.views} views, {torch.get_num_threads()} threads")
    for clock, rates in (("wall", wall), ("cpu", cpu)):
        ratios = [b / a for a, b in zip(rates["encoder"], rates["embed"])]
        for name, values in (*rates.items(), ("embed / encoder", ratios)):
            print(
                f"{clock:5}{name:16}median {statistics.median(values):8.2f}   "
                f"{min(values):.2f} to {max(values):.2f} in {args.runs} runs"
            )


if __name__ == "__main__":
    main()
