"""Copies found among real images: recall and precision of pairs, beside other ways.

Command::

    python benchmarks/insight_copies.py /path/to/imagenette-val \
        --weights ../shared/weights/mobilenetv2_100.safetensors --image-size 128

Of 300 of 3,000 images five copies are made: JPEG at quality 50, half the size, 5 % of the width off
the left and of the height off the bottom, grey, a caption bar below. All 15 pairs of an image and
its copies are to be found, and no other pair of the 10 million. The peers are given the threshold
that is best for them on these very images, except where a fixed one is named; ImageHash is asked
where it is installed (``pip install imagehash``).
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from mfavbs.duplicates import group_images
from mfavbs.encoders import load_encoder
from mfavbs.features import embed
from mfavbs.images import open_images, read_image
from mfavbs.model import fit_projection, mean_view, unit
from mfavbs.sources import open_source

_TRIED = 20_000


def copies_of(image: Image.Image) -> Iterator[bytes]:
    w, h = image.size
    bar = max(8, h // 8)
    caption = Image.new("RGB", (w, h + bar), "white")
    caption.paste(image, (0, 0))
    ImageDraw.Draw(caption).text((2, h), "A caption of 2019", fill="black")
    yield _jpeg(image, 50)
    yield _jpeg(image.resize((max(1, w // 2), max(1, h // 2)), Image.Resampling.BICUBIC))
    yield _jpeg(image.crop((round(0.05 * w), 0, w, h - round(0.05 * h))))
    yield _jpeg(image.convert("L").convert("RGB"))
    yield _jpeg(caption)


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def make_folder(source: str, folder: Path, n_images: int, n_copied: int) -> None:
    """Write ``NUMBER-0.jpg`` for each image, and its copies beside it under other last digits."""
    images = open_images(source)
    rows = np.random.default_rng(0).permutation(len(images))[:n_images]
    for number, row in enumerate(rows.tolist()):
        image = read_image(images, row).image
        (folder / f"{number:05d}-0.jpg").write_bytes(_jpeg(image, 95))
        if number < n_copied:
            for kind, content in enumerate(copies_of(image), start=1):
                (folder / f"{number:05d}-{kind}.jpg").write_bytes(content)


def scored(found: np.ndarray, of: np.ndarray) -> tuple[float, float]:
    """Recall and precision of pairs (p, 2); ``of`` (n,): the image that each is a copy of."""
    sizes = np.bincount(of)
    right = (of[found[:, 0]] == of[found[:, 1]]).sum()
    return right / (sizes * (sizes - 1) // 2).sum(), right / max(1, len(found))


def pairs_of_groups(group: np.ndarray) -> np.ndarray:
    pairs = [np.empty((0, 2), int)]
    for number in range(group.max(initial=-1) + 1):
        rows = np.flatnonzero(group == number)
        pairs.append(np.stack([rows[i] for i in np.triu_indices(len(rows), 1)], axis=1))
    return np.concatenate(pairs)


def nearer(likeness: np.ndarray, threshold: float) -> np.ndarray:
    a, b = np.nonzero(np.triu(likeness >= threshold, 1))
    return np.stack([a, b], axis=1)


def at_its_best(likeness: np.ndarray, of: np.ndarray) -> tuple[str, np.ndarray]:
    """The threshold of the largest F1, and the pairs it gives."""
    a, b = np.triu_indices(len(of), 1)
    values = likeness[a, b]
    # No more than these: with four times as many pairs as there are, precision is lost.
    top = np.argpartition(values, -_TRIED)[-_TRIED:]
    top = top[np.argsort(-values[top], kind="stable")]
    right = np.cumsum(of[a[top]] == of[b[top]])
    sizes = np.bincount(of)
    total = (sizes * (sizes - 1) // 2).sum()
    f1 = 2 * right / (np.arange(1, _TRIED + 1) + total)
    ends = np.flatnonzero(np.diff(values[top]))  # equal values come all or none
    threshold = values[top[ends[f1[ends].argmax()]]]
    return f"{threshold:.3g}, best", nearer(likeness, threshold)


def hashes(folder: Path, keys: list[str], make: Callable) -> np.ndarray:
    """Minus the Hamming distance of all pairs (n, n)."""
    bits = np.stack([make(Image.open(folder / key)).hash.ravel() for key in keys]).astype(np.int16)
    signs = 2 * bits - 1
    return (signs @ signs.T - signs.shape[1]) // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="images, as mfavbs.open_images takes them")
    parser.add_argument("--encoder", default="timm:mobilenetv2_100")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--copied", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="keep images and features here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        photos = folder / "images"
        if not photos.exists():
            photos.mkdir(parents=True)
            make_folder(args.source, photos, args.images, args.copied)
        encoder = load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
        embed(open_images(photos), folder / "features", encoder)
        features = open_source(folder / "features").features(folder, None, {})
        of = np.array([int(key.split("-")[0]) for key in features.keys])
        array = np.asarray(features.array)
        mean, components = fit_projection(array, 128, torch.Generator().manual_seed(0))
        tokens = (unit(array) - mean) @ components
        embeddings = mean_view(tokens).numpy()

        group = group_images(features, embeddings, lambda rows: tokens[rows].numpy())
        rows = [("mfavbs", "by the data", pairs_of_groups(group))]
        clean = unit(array[:, 0, 0]).numpy()
        for name, x in (("cosine, encoder", clean), ("cosine, projection", embeddings)):
            cosine = x @ x.T
            rows.append((name, "0.95, fixed", nearer(cosine, 0.95)))
            rows.append((name, *at_its_best(cosine, of)))
        try:
            import imagehash
        except ImportError:
            print("ImageHash is not installed: without it.")
        else:
            for name in ("phash", "dhash", "whash"):
                likeness = hashes(photos, features.keys, getattr(imagehash, name))
                rows.append((f"ImageHash, {name}", "5 bits, fixed", nearer(likeness, -5)))
                rows.append((f"ImageHash, {name}", *at_its_best(likeness, of)))
        print("| | threshold | recall | precision |\n|---|---|---|---|")
        for name, threshold, found in rows:
            recall, precision = scored(found, of)
            print(f"| {name} | {threshold} | {recall:.3f} | {precision:.3f} |")


if __name__ == "__main__":
    main()
