"""Images a second of `mfavbs.embed` on this machine alone and on a Ray of its own, undisturbed and
with processes of Ray killed on the way. A JSON object for each run, and one that compares them.

Command::

    python benchmarks/ray_engine.py /path/to/rsscn7 --encoder timm:mobilenetv2_100 \
        --weights ../shared/weights/mobilenetv2_100.safetensors --image-size 128

Each run is a process of its own, one after the other. ``images_a_second`` counts from the moment
when a tenth is done: before, processes start. ``seconds`` is all of it. Each kill is a SIGKILL of a
process that encodes, when a share of the images is done. ``same_bytes``: every file of the store is
that of the first run.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

LOCAL, RAY, KILLED = "local", "ray", "ray, killed"


def encode(how: str, args: argparse.Namespace, out: Path, answer: Any) -> None:
    """One run, in a process of its own; its figures go into the queue ``answer``."""
    from mfavbs import embed, load_encoder, open_images
    from mfavbs.engines import engine_of

    start = time.perf_counter()
    images = open_images(args.source)
    encoder = load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
    engine = engine_of(LOCAL if how == LOCAL else RAY)
    done = [(start, 0)]
    kills = [len(images) * (i + 1) // (args.kills + 1) for i in range(args.kills)]
    due = kills if how == KILLED else []

    @contextlib.contextmanager
    def timed(work: Any) -> Iterator[Iterator[Any]]:
        def parts() -> Iterator[Any]:
            for part in begun:
                done.append((time.perf_counter(), done[-1][1] + len(part.seen)))
                if due and done[-1][1] >= due[0] and kill_one(len(due)):
                    due.pop(0)
                yield part

        with engine(work) as begun:
            yield parts()

    options = {"n_views": args.views, "device": "cpu", "verbose": False, "engine": timed}
    embed(images, out, encoder, n_workers=None if how == LOCAL else args.workers, **options)
    end, n = done[-1]
    begin, first = next(each for each in done if each[1] >= n // 10)
    rate = (n - first) / (end - begin)
    answer.put(
        {
            "engine": how,
            "images": n,
            "seconds": round(time.perf_counter() - start, 1),
            "images_a_second": round(rate, 2),
            "killed": (args.kills if how == KILLED else 0) - len(due),
        }
    )


def kill_one(number: int) -> bool:
    """Kill a process of Ray's that encodes, each time another; False where none is at work."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ray::mfavbs" in " ".join(process.cmdline()):
                found.append(process)
    if found:
        found[number % len(found)].kill()
    return bool(found)


def digest(out: Path) -> str:
    """Of every file of a store."""
    found = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder of images")
    parser.add_argument("--encoder", default="timm:mobilenetv2_100")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="processes of Ray")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()

    rates: dict[str, list[float]] = {LOCAL: [], RAY: [], KILLED: []}
    spawn, first = multiprocessing.get_context("spawn"), None
    with tempfile.TemporaryDirectory() as folder:
        for run in range(args.runs):
            for how in rates:
                out, answer = Path(folder) / f"{how}-{run}", spawn.SimpleQueue()
                process = spawn.Process(target=encode, args=(how, args, out, answer))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(f"{how} ended with {process.exitcode}")
                figures = answer.get()
                first = first or digest(out)
                rates[how].append(figures["images_a_second"])
                print(json.dumps({**figures, "same_bytes": digest(out) == first}), flush=True)
    medians = {how: statistics.median(found) for how, found in rates.items()}
    ratios = {how: round(medians[how] / medians[LOCAL], 3) for how in (RAY, KILLED)}
    print(json.dumps({"median_images_a_second": medians, "of_local": ratios}))


if __name__ == "__main__":
    main()
