"""What the benchmarks from pixels share: their sets, a record of every epoch, runs side by side.

In: feature stores and their images. Out: a JSON line for each set, method and seed, as soon as it
is known; run again, a benchmark goes on.
"""

import argparse
import contextlib
import functools
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfavbs import FeatureStore, MFAVBsClustering, open_images, score
from mfavbs.devices import pick_device
from mfavbs.features import store_pixels
from mfavbs.model import (
    PixelNetwork,
    PixelViews,
    assign_pixels,
    average_with_neighbours,
    nearest_neighbours,
    pixel_fitting,
)
from mfavbs.model.head_selection import criterion
from mfavbs.model.neighbours import Neighbourhood

ASKED = 20  # nearest neighbours whose labels foretell an image's
SHARES = (0.25, 0.5, 0.75)  # of the way from epoch 0 to another (WiSE-FT, arXiv 2109.01903)
_NAMES = ("pixels", "crops", "features", "labels", "blocks")


class Set(NamedTuple):
    """Some images: pixels (n, S, S, 3), crops (n, v, m), features (n, v, 1, f), labels (n,)."""

    pixels: np.ndarray
    crops: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    blocks: np.ndarray


class Job(NamedTuple):
    """A method on a set: what its line begins with, the set's file, the parameters."""

    about: dict[str, Any]
    data: Path
    options: dict[str, Any]


def opened(store: str, source: str, image_size: int, n: int, folder: Path) -> Set:
    """A part of a store's images, and their pixels, which are kept in ``folder``."""
    found = FeatureStore.open(store)
    pixels, crops = store_pixels(
        found, open_images(source), folder, edge=2 * image_size, image_size=image_size
    )
    rows = np.random.default_rng(0).permutation(len(found.keys))[:n]
    rows.sort()
    labels = np.unique(found.labels, return_inverse=True)[1]
    arrays = (np.asarray(array[rows]) for array in (pixels, crops, found.features))
    return Set(*arrays, labels[rows], np.array(found.blocks))


@functools.lru_cache(maxsize=4)
def loaded(path: Path) -> Set:
    """A set, once for each process."""
    with np.load(path) as file:
        return Set(*(file[name] for name in _NAMES))


@functools.lru_cache(maxsize=16)
def fitted(path: Path, dim: int, seed: int, device: str) -> MFAVBsClustering:
    """The run on the frozen features of a set."""
    data = loaded(path)
    k = len(set(data.labels.tolist()))
    model = MFAVBsClustering(k, dim=dim, random_state=seed, device=device)
    return model.fit(data.features)


class Record:
    """Of every epoch its scores by labels, and what rules without labels see of it.

    ``epochs`` has for each a list over the heads: ``acc``, ``nmi``, ``confidence``, and of a run
    with frozen features ``criterion``, the rule in use, ``own`` and ``frozen``, the same by the
    learned representations and by the frozen features alone; ``neighbours`` is the accuracy of
    the 20 nearest in the learned space, ``seconds`` the epoch's training without what it is
    judged.
    """

    def __init__(self, labels: np.ndarray, *, weights: bool) -> None:
        self.labels = labels
        self.epochs: list[dict[str, Any]] = []
        self.weights: list[dict[str, Tensor]] | None = [] if weights else None
        self.measure: Callable[[], dict[str, Any]] = dict
        self.since = time.perf_counter()

    def see(self, network: PixelNetwork) -> None:
        seconds = time.perf_counter() - self.since
        self.epochs.append(self.measure() | {"seconds": round(seconds, 2)})
        if self.weights is not None:
            state = network.state_dict().items()
            self.weights.append({name: x.detach().clone() for name, x in state})

    def between(self, network: PixelNetwork, epoch: int) -> list[dict[str, Any]]:
        """The same of weights between those of epoch 0 and of another; ``network`` gets them."""
        assert self.weights is not None
        network.make_room(0)
        found = []
        for share in SHARES:
            there = self.weights[epoch]
            state = {
                name: torch.lerp(x, there[name], share) if x.is_floating_point() else there[name]
                for name, x in self.weights[0].items()
            }
            network.load_state_dict(state)
            found.append({"epoch": epoch, "share": share, **self.measure()})
        return found


@contextlib.contextmanager
def recorded(labels: np.ndarray, *, weights: bool = True) -> Iterator[Record]:
    """What is fitted from pixels meanwhile is recorded."""
    record = Record(labels, weights=weights)
    before = pixel_fitting._judge

    def made(
        network: PixelNetwork,
        views: PixelViews,
        embeddings: Tensor | None,
        frozen: MFAVBsClustering | None,
        chosen: dict[str, Any],
    ) -> Callable[[int], dict[str, Any]]:
        judge = before(network, views, embeddings, frozen, chosen)
        generator = torch.Generator().manual_seed(chosen["random_state"])
        most = max(pixel_fitting._JUDGED, 20 * chosen["n_clusters"])
        rows = torch.randperm(len(views), generator=generator)[:most].sort().values.numpy()
        averaged = pixel_fitting._is_averaged(frozen, chosen)
        weight = chosen["balance_weight"]
        seen = None if embeddings is None else embeddings[torch.from_numpy(rows).to(views.device)]
        y = record.labels[views.rows[rows]]
        record.measure = lambda: measured(network, views, seen, rows, y, weight, averaged)

        def see(epoch: int) -> dict[str, Any]:
            if views.device.type == "cuda":
                torch.cuda.synchronize(views.device)
            record.see(network)
            found = judge(epoch)
            record.since = time.perf_counter()
            return found

        return see

    pixel_fitting._judge = made
    try:
        yield record
    finally:
        pixel_fitting._judge = before


def measured(
    network: PixelNetwork,
    views: PixelViews,
    frozen: Tensor | None,
    rows: np.ndarray,
    labels: np.ndarray,
    balance_weight: float,
    averaged: bool,
) -> dict[str, Any]:
    """Scores by labels (m,) of every head on some rows, and what rules see of them."""
    answers, seen = assign_pixels(network, views, rows=rows)  # (h, m, k), (m, d)
    if averaged:
        bank = Neighbourhood(seen)
        answers = average_with_neighbours(answers, seen, answers.half(), bank)
    scores = [score(labels, y) for y in answers.argmax(-1).cpu().numpy()]
    entry: dict[str, Any] = {name: [x[name] for x in scores] for name in ("acc", "nmi")}
    entry["confidence"] = answers.max(-1).values.mean(-1).tolist()
    if frozen is not None:
        spaces = {"criterion": torch.cat([seen, frozen], 1), "own": seen, "frozen": frozen}
        for name, space in spaces.items():
            entry[name] = criterion(answers, space, balance_weight).tolist()
    entry = {name: [round(x, 5) for x in values] for name, values in entry.items()}
    return entry | {"neighbours": neighbours_accuracy(seen, labels)}


def neighbours_accuracy(representations: Tensor, labels: np.ndarray) -> float:
    """Share of images (m,) whose label is the most frequent among their 20 nearest others'."""
    near = nearest_neighbours(representations, min(ASKED, len(labels) - 1)).cpu().numpy()
    votes = np.zeros((len(labels), labels.max() + 1))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[near]), 1)
    return round(float((votes.argmax(1) == labels).mean()), 4)


def parser_of(doc: str, methods: str) -> argparse.ArgumentParser:
    """What every benchmark from pixels asks."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument(
        "--set", nargs=4, action="append", metavar=("NAME", "STORE", "IMAGES", "PX"), default=[]
    )
    parser.add_argument("--methods", default=methods, help="several by commas")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=2000, help="of each set, at the most")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dim", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each a process")
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--folder", type=Path, default=Path(), help="where pixels are kept")
    return parser


def jobs_of(args: argparse.Namespace, more: dict[str, Any] | None = None) -> list[Job]:
    """A job for each seed, method and set, in this order, whose line is not there yet."""
    done = []
    if args.out.exists():
        done = [json.loads(line) for line in args.out.read_text().splitlines()]
    asked = {name: getattr(args, name) for name in ("epochs", "dim", "learning_rate")}
    options = asked | {"shared_depth": 1, "fused_depth": 1, "device": args.device}
    files = {}
    for name, store, source, size in args.set:
        path = args.folder / f"{name}-{size}.npz"
        data = opened(store, source, int(size), args.images, path.with_suffix(".pixels"))
        np.savez(path, **data._asdict())
        about = {"set": name, "image_size": int(size), "images": len(data.labels)}
        files[name, size] = (path, about)
    found = []
    for seed in args.seeds:
        for method in args.methods.split(","):
            for (_, size), (path, about) in files.items():
                which = about | asked | (more or {}) | {"seed": seed, "method": method}
                if not any(which.items() <= line.items() for line in done):
                    given = {"image_size": int(size), "random_state": seed}
                    found.append(Job(which, path, options | given))
    return found


def run_all(args: argparse.Namespace, jobs: list[Job], one: Callable[[Job], dict]) -> None:
    """Write a line for each job, as they end; what fails in one is told, the others go on."""
    card = pick_device(args.device)
    where = torch.cuda.get_device_name(card) if card.type == "cuda" else card.type
    context = multiprocessing.get_context("spawn")  # a card cannot be shared by forks
    with ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        running = {pool.submit(one, job): job for job in jobs}
        for future in as_completed(running):
            about = running[future].about
            try:
                line = about | future.result() | {"where": where, "jobs": args.jobs}
            except Exception as error:
                traceback.print_exception(error)
                print(f"FAILED {about}: {error!r}", file=sys.stderr, flush=True)
                continue
            with args.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            short = {name: x for name, x in line.items() if name not in ("history", "between")}
            print(json.dumps(short), flush=True)
