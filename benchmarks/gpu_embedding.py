"""The rows of ``gpu.py`` that begin with images: decoding, drawing, encoding, a feature store."""

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from gpu_table import SECONDS, Row, Table, rate
from PIL import Image
from safetensors.torch import save_file

from mfavbs.devices import on_device
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
