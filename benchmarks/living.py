"""What a folder that changes costs: figures for docs/performance.md, one part at a time.

    python benchmarks/living.py grow TAR --encoder timm:mobilenetv2_100 --weights FILE
    python benchmarks/living.py same
    python benchmarks/living.py disk
    python benchmarks/living.py days FOLDER --encoder timm:mobilenetv2_100 --weights FILE
    python benchmarks/living.py history

``grow``: 1,000 images added to 20,000 of a tar, over encoding the 1,000 alone. ``same``: `embed` on
50,000 files of which none has changed, from process start. ``disk``: a store's size over the bytes
of its features after 100 additions of 50. ``days``: ten days of changes in a folder of photographs,
one command a day, over encoding each picture once. ``history``: a store that grows in 20 random
steps, with a `kill -9` in each; what is read, and the compact files, against made at once.
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def mfavbs(*arguments: object) -> float:
    """Seconds of one command, from process start; its last lines are shown where it fails."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "mfavbs", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - began


def encoder_of(args: argparse.Namespace) -> list[object]:
    return ["--encoder", args.encoder, "--weights", args.weights, "--image-size", args.image_size]


def grow(args: argparse.Namespace, folder: Path) -> None:
    names = unpack(args.source, folder / "all", args.n + args.n // 20)
    for part, some in (("grown", names[: args.n]), ("alone", names[args.n :])):
        for name in some:
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / "all" / name, folder / part / name)
    mfavbs("embed", folder / "grown", "--out", folder / "store", *encoder_of(args))
    alone = mfavbs("embed", folder / "alone", "--out", folder / "of-alone", *encoder_of(args))
    for name in names[args.n :]:
        os.link(folder / "all" / name, folder / "grown" / name)
    added = mfavbs("embed", folder / "grown", "--out", folder / "store", *encoder_of(args))
    print(
        f"{args.n // 20} added to {args.n}: {added:.1f} s, alone {alone:.1f} s: {added / alone:.2f}"
    )


def unpack(source: Path, folder: Path, n: int) -> list[str]:
    with tarfile.open(source) as tar:
        members = [member for member in tar if member.isreg()]
        chosen = random.Random(0).sample(members, n)
        for member in sorted(chosen, key=lambda member: member.offset):
            path = folder / Path(member.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())  # type: ignore[union-attr]
    return [member.name for member in chosen]


def same(args: argparse.Namespace, folder: Path) -> None:
    draw = np.random.default_rng(0)
    for i in range(50_000):
        path = folder / "images" / f"{i % 100:02d}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    command = ("embed", folder / "images", "--out", folder / "store", "--views", 1)
    command = (*command, "--encoder", "pixels", "--image-size", 8)
    print(f"50,000 images encoded: {mfavbs(*command):.1f} s")
    seconds = [mfavbs(*command) for _ in range(5)]
    least, most = min(seconds), max(seconds)
    print(f"nothing changed: {statistics.median(seconds):.2f} s, {least:.2f} to {most:.2f}")


def disk(args: argparse.Namespace, folder: Path) -> None:
    from mfavbs import FeatureStore, embed, load_encoder, open_images

    draw, encoder = np.random.default_rng(0), load_encoder("pixels", image_size=16)
    for day in range(100):
        for i in range(50):
            path = folder / "images" / f"{day:03d}-{i:02d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
        images = open_images(folder / "images")
        embed(images, folder / "store", encoder, n_workers=0, verbose=False)
    shape = FeatureStore.open(folder / "store").features.shape
    used = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file())
    print(f"{used:,} bytes for features of {shape}: {used / (2 * np.prod(shape)):.3f}")


def days(args: argparse.Namespace, folder: Path) -> None:
    """Ten days: 20 new a day, 5 removed, 5 renamed, 2 replaced."""
    rng = random.Random(0)
    pool = sorted(path for path in args.source.rglob("*") if path.is_file())
    rng.shuffle(pool)
    photos, run = folder / "photos", folder / "run"
    photos.mkdir()

    def take(n: int) -> None:
        for _ in range(n):
            path = pool.pop()
            shutil.copy2(path, photos / f"{len(pool):05d}{path.suffix}")

    take(500)
    command = ("cluster", photos, "-k", 10, "--out", run, *encoder_of(args))
    seconds, numbers = [mfavbs(*command)], []
    for _ in range(10):
        before = labels_of(run)
        here = sorted(photos.iterdir())
        for path in rng.sample(here, 12):
            kind = rng.choice(["gone", "renamed", "replaced"])
            if kind == "gone":
                path.unlink()
            elif kind == "renamed":
                path.rename(path.with_name(f"renamed-{path.name}"))
            else:
                shutil.copy(pool.pop(), path)
        take(20)
        seconds.append(mfavbs(*command, "--update"))
        after = labels_of(run)
        numbers += [after[key] == before[key] for key in after.keys() & before.keys()]
    labels = labels_of(run)
    assert len(labels) == len(list(photos.iterdir())), "a picture is missing"
    once = mfavbs("embed", photos, "--out", folder / "once", *encoder_of(args))
    print(f"first day {seconds[0]:.1f} s, the others {statistics.median(seconds[1:]):.1f} s each")
    print(f"all eleven {sum(seconds):.1f} s; the last day's pictures encoded once {once:.1f} s")
    print(f"{len(labels)} pictures, each once; {np.mean(numbers):.4f} of the labels as they were")


def history(args: argparse.Namespace, folder: Path) -> None:
    rng, photos, store = random.Random(0), folder / "photos", folder / "store"
    photos.mkdir()
    rows = files = killed = 0
    for step in range(20):
        for i in range(60 if step == 0 else 12):
            change(photos, f"{step:02d}-{i:02d}.png", rng)
        command = ("embed", photos, "--out", store, "--encoder", "pixels", "--image-size", 32)
        begun = subprocess.Popen([sys.executable, "-m", "mfavbs", *map(str, command)], stderr=-3)
        time.sleep(rng.uniform(2, 6))
        killed += begun.poll() is None
        begun.kill()  # its workers are left to find out by themselves
        begun.wait()
        mfavbs(*command)
        at_once, compact = folder / f"at-once-{step}", folder / f"compact-{step}"
        mfavbs(*("embed", photos, "--out", at_once), *command[4:])
        shutil.copytree(store, compact)
        mfavbs(*("embed", photos, "--out", compact), *command[4:], "--compact")
        rows += read(store) == read(at_once)
        files += digests(compact) == digests(at_once)
    print(f"{killed} of 20 killed; equal to made at once: {rows} read, {files} compact, of 20")


def change(photos: Path, name: str, rng: random.Random) -> None:
    """One change: a new picture, another in place of one, one less, renamed or copied."""
    here = sorted(photos.iterdir())
    kind = rng.choice(["new", "new", "changed", "gone", "renamed", "copied"]) if here else "new"
    path = rng.choice(here) if here else photos
    if kind in ("new", "changed"):
        pixels = np.frombuffer(rng.randbytes(3 * 200 * 200), np.uint8).reshape(200, 200, 3)
        Image.fromarray(pixels).save(photos / name if kind == "new" else path)
    elif kind == "gone":
        path.unlink()
    elif kind == "renamed":
        path.rename(photos / name)
    else:
        shutil.copy2(path, photos / name)


def read(store: Path) -> tuple[list[str], bytes]:
    from mfavbs import FeatureStore

    opened = FeatureStore.open(store)
    return opened.keys, np.asarray(opened.features).tobytes()


def digests(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def labels_of(run: Path) -> dict[str, str]:
    with open(run / "labels.parquet", "rb") as file:
        import pyarrow.parquet as pq

        table = pq.read_table(file, columns=["hash", "cluster"]).to_pydict()
    with open(run / "labels.csv", encoding="utf-8-sig") as text:
        assert len(list(csv.DictReader(text))) == len(table["hash"])
    json.loads((run / "run.json").read_text())
    return dict(zip(table["hash"], table["cluster"], strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=["grow", "same", "disk", "days", "history"])
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--encoder", default="pixels")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("-n", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        parts = {"grow": grow, "same": same, "disk": disk, "days": days, "history": history}
        parts[given.part](given, Path(name))
