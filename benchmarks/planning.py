"""How near `mfavbs plan` comes to what `mfavbs cluster` takes, by stage and in all.

Command::

    python benchmarks/planning.py DATA WEIGHTS --results plan.jsonl --sizes 100 500 2000

DATA has tars of images, WEIGHTS files of weights as ``mobilenetv2_100.safetensors``. Each trial
draws so many images of a set into a folder, plans, clusters, and appends one line to the results:
seconds foretold and taken by stage, and their ratio; disk and memory likewise. Trials that are in
the results are not made again. At the end, and with ``--summary`` at once, the share of trials
whose total was within a factor of 1.5 is printed.

``--growth`` prints how the seconds of each stage grow with the number of images on this machine, in
the form of the table in `mfavbs/growing.py`: some minutes on an idle machine.

On a busy machine ``--cpu`` counts processor time in both, of one process without workers; give it
one thread then (OMP_NUM_THREADS=1).
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

FACTOR = 1.5
BY_CPU = """
import time
time.perf_counter = time.process_time
from mfavbs.cli import main
main()
"""
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
ENCODERS = {
    "mobilenetv2": ("timm:mobilenetv2_100", "mobilenetv2_100.safetensors"),
    "efficientnet-lite2": ("timm:tf_efficientnet_lite2", "efficientnet_lite2.safetensors"),
}
SETS = {  # tars, the edge of a view in pixels
    "cifar10": (("cifar10-train.tar", "cifar10-test.tar"), 64),
    "imagenette": (("imagenette-val.tar",), 128),
    "caltech101": (("caltech101-half.tar",), 128),
    "rsscn7": (("rsscn7.tar",), 128),
    "neu-steel": (("neu-steel.tar",), 128),
}


class Trial(NamedTuple):
    """A set, how many of its images, an encoder, a number of clusters."""

    set: str
    n: int
    encoder: str
    k: str


def draw(folder: Path, data: Path, trial: Trial) -> int:
    """Files of so many images of a set, drawn by a seed; how many there were."""
    found: list[tuple[Path, tarfile.TarInfo]] = []
    for name in SETS[trial.set][0]:
        with tarfile.open(data / name) as tar:
            found += [
                (data / name, member)
                for member in tar
                if member.isfile() and member.name.lower().endswith(SUFFIXES)
            ]
    chosen = np.sort(np.random.default_rng(0).permutation(len(found))[: trial.n])
    for path in dict.fromkeys(found[row][0] for row in chosen):
        with tarfile.open(path) as tar:
            for row in chosen:
                if found[row][0] == path:
                    content = tar.extractfile(found[row][1])
                    assert content is not None, "only files were taken"
                    name = f"{row}{Path(found[row][1].name).suffix}"
                    (folder / name).write_bytes(content.read())
    return len(chosen)


def command(name: str, source: Path, out: Path, args: argparse.Namespace, trial: Trial) -> Any:
    """What a command gives as JSON, and the seconds of its process."""
    encoder, weights = ENCODERS[trial.encoder]
    start = ["-c", BY_CPU, "--workers", "0"] if args.cpu else ["-m", "mfavbs"]
    words = [
        *(sys.executable, *start[:2], name, str(source), "-k", trial.k, "--out", str(out)),
        *start[2:],
        *("--encoder", encoder, "--weights", str(args.weights / weights), "--json"),
        *("--image-size", str(SETS[trial.set][1]), "--views", str(args.views)),
    ]
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    took, after = time.perf_counter() - begin, os.times()
    if args.cpu:
        took = sum(after[2:4]) - sum(before[2:4])  # of children
    return json.loads(done.stdout), took


def stages_of(seconds: dict[str, float]) -> dict[str, float]:
    """What a run recorded, by the stages of a plan."""
    found = {"number of clusters": seconds.get("training: number of clusters", 0.0)}
    found["training"] = seconds["training"] - found["number of clusters"]
    found["features"] = seconds["features"]
    found["map"] = seconds.get("insight: map", 0.0)
    asked = [value for name, value in seconds.items() if name.startswith("insight: ")]
    found["questions"] = sum(asked) - found["map"]
    found["report"] = seconds.get("report", 0.0) + seconds["writing"]
    return {name: round(value, 2) for name, value in found.items()}


def one(trial: Trial, args: argparse.Namespace) -> dict[str, Any]:
    """Plan and cluster, and set one against the other."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source, out = Path(folder) / "images", Path(folder) / "run"
        source.mkdir()
        n = draw(source, args.data, trial)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        plan, planning = command("plan", source, out, args, trial)
        told, whole = command("cluster", source, out, args, trial)
        disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    taken = stages_of(told["seconds"])
    stages = {
        name: {"plan": plan["seconds"].get(name, 0.0), "run": value}
        for name, value in taken.items()
    }
    memory = told["peak_memory_mib"] * 2**20
    return {
        **trial._asdict(),
        "n": n,
        "asked": trial.n,
        "load": load,
        "plan": plan["total"],
        "run": round(whole, 1),
        "ratio": round(plan["total"] / whole, 3),
        "planning": round(planning, 1),
        "stages": stages,
        "disk": round(plan["disk"] / disk, 3),
        "memory": round(plan["memory"] / memory, 3),
    }


def trials(args: argparse.Namespace) -> Iterator[Trial]:
    """Those that are asked for and not in the results."""
    done = {(r["set"], r["asked"], r["encoder"], r["k"]) for r in results(args)}
    for n in args.sizes:
        for name in args.sets:
            for encoder in args.encoders:
                for k in args.k:
                    if (name, n, encoder, k) not in done:
                        yield Trial(name, n, encoder, k)


def results(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Lines that are there."""
    if not args.results.exists():
        return []
    return [json.loads(line) for line in args.results.read_text().splitlines()]


def summary(args: argparse.Namespace) -> dict[str, Any]:
    """The share of trials within the factor, and the ratios in the middle and at the ends."""
    found = results(args)
    ratios = np.array([r["ratio"] for r in found])
    within = (ratios < FACTOR) & (ratios > 1 / FACTOR)
    middle, least, most = (np.quantile(ratios, at) for at in (0.5, 0, 1))
    spread = {"median": round(middle, 2), "least": round(least, 2), "most": round(most, 2)}
    slow = round(float(max(r["planning"] for r in found)), 1)
    return {
        "trials": len(found),
        "within": round(float(within.mean()), 3),
        **spread,
        "slowest": slow,
    }


def print_growth(args: argparse.Namespace) -> None:
    """Seconds of each stage by the number of images, of synthetic features and pictures."""
    from mfavbs import progress, rehearsing
    from mfavbs.growing import NUMBERS
    from mfavbs.images import LOOK

    if args.cpu:
        progress.time = SimpleNamespace(perf_counter=time.process_time, monotonic=time.monotonic)
    rng = np.random.default_rng(0)
    k, f = 10, args.width
    parameters = {"n_clusters": k, "random_state": 0, "device": "cpu"}
    centres = rng.standard_normal((k, f), np.float32)
    table: dict[str, list[float]] = {}
    for n in (48, *NUMBERS[:-1]):  # the first imports what is needed; the last takes too long
        images = centres[rng.integers(k, size=n)] + rng.standard_normal((n, f), np.float32)
        features = np.empty((n, args.views, 1, f), np.float16)
        for view in range(args.views):
            features[:, view, 0] = images + 0.5 * rng.standard_normal((n, f), np.float32)
        looks = np.zeros(n, LOOK)
        looks["grey"] = rng.integers(0, 256, looks["grey"].shape, np.uint8)
        looks["width"] = looks["height"] = 64
        some = rehearsing._some(features, looks, n)
        model, seconds, step = rehearsing._fitted(some, 12, parameters)
        found = {f"training: {name}": value for name, value in seconds.items()}
        found |= rehearsing._ask(some, model, n, ())
        print(json.dumps({"n": n, "step": round(step, 4), **found}), file=sys.stderr, flush=True)
        for name, value in found.items():
            if n >= NUMBERS[0]:
                table.setdefault(name, []).append(float(f"{max(value, 0.001):.2g}"))
    print("\n".join(f'    "{name}": {tuple(values)},' for name, values in table.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--results", type=Path, default=Path("planning.jsonl"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--sets", nargs="+", default=[*SETS], choices=[*SETS])
    parser.add_argument("--encoders", nargs="+", default=[*ENCODERS], choices=[*ENCODERS])
    parser.add_argument("-k", nargs="+", default=["10"])
    parser.add_argument("--views", type=int, default=5)
    parser.add_argument("--width", type=int, default=512, help="of the features for --growth")
    parser.add_argument("--folder", help="where images are drawn to and runs made; tidied up")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--cpu", action="store_true", help="processor time of one process")
    args = parser.parse_args()
    if args.growth:
        print_growth(args)
        return
    if not args.summary:
        if not (args.data and args.weights):
            parser.error("give DATA and WEIGHTS")
        for trial in trials(args):
            line = json.dumps(one(trial, args))
            print(line, flush=True)
            with open(args.results, "a") as file:
                file.write(line + "\n")
    print(json.dumps(summary(args)))


if __name__ == "__main__":
    main()
