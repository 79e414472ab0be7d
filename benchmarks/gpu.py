"""What a GPU makes of it: rates of embedding beside the card's own ceilings, in one run.

Command::

    python benchmarks/gpu.py                       # the device that --device auto finds
    python benchmarks/gpu.py --images photos       # a folder or tar of your own as well
    python benchmarks/gpu.py --quick --device cpu  # small, to see that it runs

It needs no data and no weights: images are made, networks are random. Rows appear as they are
measured; one that fails says so and the rest goes on. ``--json FILE`` keeps them.

Of each case: what one core decodes, what all workers decode and hand over, what the card crops and
colours, what it encodes from ready views, both after one another ("card"), and `mfavbs.embed` from
files to a feature store. Expect embed at 0.8 of the card, or at what the workers decode.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from gpu_training import million_row, training_rows
from PIL import Image
from safetensors.torch import save_file

from mfavbs.devices import on_device, pick_device
from mfavbs.encoders import Encoder, load_encoder
from mfavbs.features import FeatureStore
from mfavbs.features import embedding as embedding_module
from mfavbs.features.cache import FeatureCache
from mfavbs.features.embedding import embed
from mfavbs.features.encoding import Encoding
from mfavbs.features.parts import Bases, Part, batch_size, forward_size
from mfavbs.features.reading import ImageViews
from mfavbs.features.workers import parts_of, workers_for
from mfavbs.images import IMAGE_MEMORY, Images, Views, open_images, read_image, views_of_bases

N_VIEWS = 5
SECONDS = 1.5  # that a rate is measured for


class Row(NamedTuple):
    """One measured figure."""

    name: str
    value: float
    unit: str
    note: str = ""


class Table:
    """Rows, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.start = time.perf_counter()

    def add(self, row: Row) -> float:
        self.rows.append(row)
        seconds = time.perf_counter() - self.start
        value = f"{row.value:,.4f}" if abs(row.value) < 10 else f"{row.value:,.0f}"
        print(f"{seconds:6.1f} s  {row.name:58} {value:>12} {row.unit:12} {row.note}", flush=True)
        return row.value

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What fails in it is told, and what comes after it is measured all the same."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            self.add(Row(name, float("nan"), "", f"FAILED: {reason}"))


def wait_for(device: torch.device) -> None:
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).synchronize()


def rate(step: Callable[[], Any], amount: float, device: torch.device, seconds: float) -> float:
    """``amount`` a second, of a step that is repeated for about so many seconds."""
    for _ in range(2):
        step()
    wait_for(device)
    n, start = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - start < seconds:
        for _ in range(4):  # more than one at a time, so that a card need not wait for the clock
            step()
        n += 4
        wait_for(device)
    return n * amount / (time.perf_counter() - start)


def ceilings(table: Table, device: torch.device, quick: bool) -> None:
    """What the card itself can do: products of matrices, and copies."""
    size, n_bytes = (512, 2**24) if quick else (8192, 2**28)
    seconds = 0.2 if quick else 1.0
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        name = f"matrix product, {str(dtype).removeprefix('torch.')}, {size}"
        with table.part(name):
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            per_second = rate(lambda a=a, b=b: a @ b, 2 * size**3, device, seconds)
            table.add(Row(name, per_second / 1e12, "TFLOP/s"))
    there = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8, device=device)
    here = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8)
    if device.type == "cuda":
        here = here.pin_memory()
    copies = {
        "copy to the card, pinned": lambda: there.copy_(here, non_blocking=True),
        "copy from the card, pinned": lambda: here.copy_(there, non_blocking=True),
        "copy on the card, read and written": lambda: there.clone(),
    }
    for name, step in copies.items():
        with table.part(name):
            each = 2 * n_bytes if "written" in name else n_bytes
            table.add(Row(name, rate(step, each, device, seconds) / 1e9, "GB/s"))


def made_jpegs(folder: Path, n: int, width: int, height: int) -> Images:
    """Blurred patches under some noise, as JPEG: 32 pictures, each file with bytes of its own."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    pictures = []
    for _ in range(32):
        image = np.zeros((height, width, 3))
        for cells in (4, 16, 64):
            shape = (min(cells, height), min(cells, width), 3)
            patches = draw.integers(0, 256, shape).astype(np.uint8)
            image += np.asarray(Image.fromarray(patches).resize((width, height))) / 3
        image += draw.normal(0, 6, image.shape)
        buffer = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
        pictures.append(buffer.getvalue())
    for i in range(n):
        picture = pictures[i % len(pictures)]
        comment = b"%08d" % i  # equal files would be encoded once
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        (folder / f"{i:06d}.jpg").write_bytes(picture[:2] + segment + picture[2:])
    return open_images(folder)


def random_encoder(folder: Path, arch: str, size: int) -> Encoder:
    """A timm network with random weights; its batch norms have seen some images."""
    path = folder / f"{arch}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        net = timm.create_model(arch, num_classes=0)
        net.train()
        with torch.no_grad():
            for _ in range(3):
                net(torch.randn(8, 3, 224, 224))
        save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    default = timm.get_pretrained_cfg(arch).input_size[-1]
    return load_encoder(f"timm:{arch}", weights=path, image_size=None if size == default else size)


def views_for(encoder: Encoder) -> Views:
    return Views(
        encoder.image_size,
        N_VIEWS,
        0,
        augmentation=encoder.augmentation,
        framing=encoder.framing,
    )


def embedding(
    table: Table,
    case: str,
    images: Images,
    make_encoder: Callable[[], Encoder],
    device: torch.device,
    seconds: float,
) -> None:
    """The rows of one encoder on one kind of images."""
    encoder = make_encoder().to_device(device)
    views = views_for(encoder)
    step = batch_size(encoder, N_VIEWS)
    note = f"{len(images):,} images, {str(encoder.dtype).removeprefix('torch.')}, parts of {step}"
    table.add(Row(f"{case}: views in a forward pass", forward_size(encoder), "views", note))
    decode_one(table, case, images, views, seconds)
    handed = decode_all(table, case, images, encoder, views)
    card = on_card(table, case, images, encoder, views, seconds)
    with tempfile.TemporaryDirectory() as folder:
        runs = {"all, first": images, "all, second": images}
        if images.kind == "folder":
            few = open_images([Path(images.location) / key for key in images.keys[:100]])
            runs = {"100": few} | runs
        for name, some in runs.items():
            start = time.perf_counter()
            store, spent = timed_embed(some, Path(folder) / name, encoder)
            seconds = time.perf_counter() - start
            got = len(store.keys) * N_VIEWS / seconds
            note = ", ".join(f"{what} {100 * each / seconds:.0f} %" for what, each in spent.items())
            table.add(Row(f"{case}: embed {name}", got, "views/s", f"{seconds:.2f} s: {note}"))
        table.add(Row(f"{case}: embed / card", got / card, "", "goal 0.8, or the next near 1"))
        table.add(Row(f"{case}: embed / decoding by all workers", got / handed, ""))
        if device.type == "cuda":
            used = torch.cuda.max_memory_allocated(device) / 2**20
            table.add(Row(f"{case}: memory of the card, most", used, "MiB"))
        near(table, case, images, make_encoder(), store.features)


def timed_embed(
    images: Images, out: Path, encoder: Encoder
) -> tuple[FeatureStore, dict[str, float]]:
    """A store, and for how many seconds of it the encoder waited or was given work."""
    spent = {"waiting for workers": 0.0, "giving work to the device": 0.0}

    class Timed(Encoding):
        def encoded(self, parts: Iterator[Part]) -> Iterator[Part]:
            return super().encoded(self._waited(parts))

        def _waited(self, parts: Iterator[Part]) -> Iterator[Part]:
            while True:
                start = time.perf_counter()
                part = next(parts, None)
                spent["waiting for workers"] += time.perf_counter() - start
                if part is None:
                    return
                yield part

        def _begin(self, part: Part) -> Callable[[], None]:
            start = time.perf_counter()
            finish = super()._begin(part)
            spent["giving work to the device"] += time.perf_counter() - start
            return finish

    usual, embedding_module.Encoding = embedding_module.Encoding, Timed
    try:
        options = {"n_views": N_VIEWS, "cache": "off", "device": str(encoder.device)}
        return embed(images, out, encoder, **options, verbose=False), spent
    finally:
        embedding_module.Encoding = usual


def decode_one(table: Table, case: str, images: Images, views: Views, seconds: float) -> None:
    """What one core does for an image that a card draws the views of, and for one that it draws."""
    for name, draw in (("decode", views.base), ("decode and draw", views)):
        n, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 2:
            picture = read_image(images, n % len(images), views.enough)
            draw(picture.image, picture.hash)
            n += 1
        each = n / (time.perf_counter() - start)
        table.add(
            Row(f"{case}: {name}, one core", each * N_VIEWS, "views/s", f"{each:,.0f} images")
        )


def decode_all(table: Table, case: str, images: Images, encoder: Encoder, views: Views) -> float:
    """What all workers decode and hand over to this process, where nothing is done with it."""
    device = encoder.device.type
    n_workers = workers_for(device)
    dataset = ImageViews(
        *(images, views, None, IMAGE_MEMORY, {}, FeatureCache()), drawn_here=device == "cpu"
    )
    step = batch_size(encoder, N_VIEWS)
    batches = [range(i, min(i + step, len(images))) for i in range(0, len(images), step)]
    n = first = 0
    with parts_of(dataset, batches, n_workers, pinned=device == "cuda") as parts:
        for part in parts:
            n += len(part.hashes)
            if not first:  # not the time in which the processes start
                first, start = n, time.perf_counter()
    each = (n - first) / (time.perf_counter() - start)
    name = f"{case}: decode and hand over, {n_workers} workers"
    return table.add(Row(name, each * N_VIEWS, "views/s", f"{each:,.0f} images"))


def on_card(
    table: Table, case: str, images: Images, encoder: Encoder, views: Views, seconds: float
) -> float:
    """What the card does with decoded images that it has already: views a second."""
    device, s, framing = encoder.device, encoder.image_size, encoder.framing
    n = min(len(images), batch_size(encoder, N_VIEWS))
    pictures = [read_image(images, row, views.enough) for row in range(n)]
    bases = Bases.of([views.base(picture.image, picture.hash) for picture in pictures])
    pixels = on_device(torch.from_numpy(np.asarray(bases.pixels)), device)
    size = forward_size(encoder)

    @torch.inference_mode()
    def draw() -> torch.Tensor:
        return views_of_bases(pixels, bases.sizes, bases.numbers, s, framing).flatten(0, 1)

    @torch.inference_mode()
    def both() -> None:
        for chunk in draw().split(size):
            encoder(chunk)

    megabytes = bases.n_bytes / n / 1e6
    drawn = rate(draw, n * N_VIEWS, device, seconds)
    note = f"bases of {megabytes:.2f} MB"
    table.add(Row(f"{case}: crop and colour", drawn, "views/s", note))
    views_there = draw()
    for factor in (1, 2, 4) if device.type == "cuda" else (1,):
        chunk = views_there[:size]
        ready = torch.cat([chunk] * -(-factor * size // len(chunk)))[: factor * size]
        bare = rate(lambda ready=ready: encoder(ready), len(ready), device, seconds)
        table.add(Row(f"{case}: bare encoder, {len(ready)} at a time", bare, "views/s"))
    return table.add(Row(f"{case}: card", rate(both, n * N_VIEWS, device, seconds), "views/s"))


def near(table: Table, case: str, images: Images, encoder: Encoder, features: np.ndarray) -> None:
    """Cosine of features to those by a CPU in float32, of views that a CPU drew."""
    views = views_for(encoder)
    pictures = [read_image(images, row, views.enough) for row in range(min(8, len(images)))]
    drawn = torch.cat([views(picture.image, picture.hash) for picture in pictures])
    expected = encoder(drawn)[:, 0]
    got = torch.from_numpy(np.array(features[: len(pictures), :, 0])).float().flatten(0, 1)
    cosine = torch.cosine_similarity(expected, got)
    note = f"least of {len(got)} views, mean {cosine.mean():.5f}; at least 0.999 on a GPU"
    table.add(Row(f"{case}: cosine to a CPU in float32", cosine.min().item(), "", note))


def embedding_rows(table: Table, args: argparse.Namespace, device: torch.device) -> None:
    """Both encoders on made images, and on those that were given."""
    n_large, n_small = (120, 200) if args.quick else (20_000, 40_000)
    seconds = 0.3 if args.quick else SECONDS
    vit = "vit_tiny_patch16_224" if args.quick else "vit_base_patch32_224"
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        large = made_jpegs(folder / "large", n_large, 500, 375)
        small = made_jpegs(folder / "small", n_small, 32, 32)
        table.add(Row("images made", n_large + n_small, "images"))
        cases = [
            ("MobileNetV2 96 px, 500 px JPEG", large, "mobilenetv2_100", 96),
            ("MobileNetV2 96 px, 32 px JPEG", small, "mobilenetv2_100", 96),
            (f"{vit} 224 px, 500 px JPEG", large, vit, 224),
        ]
        if args.images:
            given = open_images(args.images)
            cases += [
                ("MobileNetV2 96 px, given", given, "mobilenetv2_100", 96),
                (f"{vit} 224 px, given", given, vit, 224),
            ]
        for case, images, arch, size in cases:
            with table.part(case):

                def make(arch: str = arch, size: int = size) -> Encoder:
                    return random_encoder(folder, arch, size)

                embedding(table, case, images, make, device, seconds)


PARTS = {
    "ceilings": lambda table, args, device: ceilings(table, device, args.quick),
    "training": training_rows,
    "million": million_row,
    "embedding": embedding_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder or tar of images, beside the made ones")
    parser.add_argument("--folder", type=Path, help="where images are made; 1.5 GB are needed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path, help="file for the rows")
    args = parser.parse_args()
    device = pick_device(args.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = {
        "device": f"{device} ({card})",
        "cores": cores,
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (torch, timm, np)},
    }
    print(*(f"{name} {value}" for name, value in about.items()), sep=", ", flush=True)
    table = Table()
    for name in args.only:
        with table.part(name):
            PARTS[name](table, args, device)
        if args.json:
            rows = [row._asdict() for row in table.rows]
            args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    sys.exit(any("FAILED" in row.note for row in table.rows))


if __name__ == "__main__":
    main()
