"""How long extraction takes on many nodes, of which some are slow and some are lost: a simulation
of `--engine ray`, held against a real Ray of two processes on this machine.

Command::

    python benchmarks/scale_simulation.py
    python benchmarks/scale_simulation.py --source /path/to/rsscn7 --encoder timm:mobilenetv2_100 \
        --weights ../shared/weights/mobilenetv2_100.safetensors --image-size 128

A node encodes task after task. The seconds of a task are log-normal; a node is slower or faster
than others by a log-normal factor of its own; it is lost at a rate per hour, which is noticed after
some seconds, and comes back after others. Tasks are taken in their order: at most 16 for each node
are given to Ray before the oldest is done, as `mfavbs.engines` has it. A lost one goes behind those
that Ray has, as it does there. With ``copies`` a node without a task begins one a second time that
has been running elsewhere for more than twice the median, and the first to end counts: the engine
does not do that; here stands what it would be worth.

With ``--source`` the wall time of `benchmarks/ray_engine.py`'s runs with and without kills is held
against what follows from the seconds of tasks, measured in two of Ray's processes before and after.
Prints a JSON object for each.
"""

import argparse
import heapq
import json
import math
import multiprocessing
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ray_engine import KILLED, RAY, encode

from mfavbs.engines.ray_cluster import connected, set_up

IMAGES = 32  # in a task
AHEAD = 16  # tasks a node that are begun before the oldest is taken


class World(NamedTuple):
    """What nodes and tasks are like: seconds, and rates per hour."""

    task: float = 1.3  # median seconds
    spread: float = 0.2  # standard deviation of its logarithm
    slow: float = 0.1  # the same of the nodes' factors
    lost: float = 0.0  # a node, per hour
    noticed: float = 15.0  # seconds until Ray begins its task elsewhere
    back: float = 300.0  # seconds until another is in its place
    begin: float = 5.0  # until a process encodes its first
    copies: bool = False


def simulate(world: World, n_nodes: int, n_tasks: int, seed: int, kills: int = 0) -> dict[str, Any]:
    """Seconds until all tasks are done, of those that nodes without a fault would take, and the
    share of all nodes' time that was of use.

    With ``kills`` so many processes are lost, each when that share of the tasks is done; else nodes
    are, at their rate.
    """
    draw = np.random.default_rng(seed)
    factor = np.exp(draw.normal(0, world.slow, n_nodes))
    drawn = iter(())
    due = [n_tasks * (i + 1) // (kills + 1) for i in range(kills)]
    events: list[tuple[float, int, str, int, int]] = []  # time, number, what, node, task
    number, now, useful, n_lost, n_copies = 0, 0.0, 0.0, 0, 0
    again: deque[tuple[int, int]] = deque()  # lost tasks, and what Ray had been given
    idle: list[int] = []
    done = np.zeros(n_tasks, bool)
    running: dict[int, tuple[int, float, float]] = {}  # node: task, begun, seconds
    fresh, oldest, n_done, age = 0, 0, 0, np.zeros(n_nodes, int)
    copied: set[int] = set()

    def at(when: float, what: str, node: int, task: int = -1) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what, node, task))

    def give(node: int) -> bool:
        nonlocal fresh, drawn, n_copies
        if again and fresh >= again[0][1]:
            task, _ = again.popleft()
        elif fresh < given():
            task, fresh = fresh, fresh + 1
        elif world.copies and (late := slowest()) is not None:
            task = late
            copied.add(task)
            n_copies += 1
        else:
            return False
        seconds = next(drawn, None)
        if seconds is None:
            drawn = iter(np.exp(draw.normal(math.log(world.task), world.spread, 65536)).tolist())
            seconds = next(drawn)
        running[node] = (task, now, seconds * factor[node])
        at(now + running[node][2], "done", node, int(age[node]))
        return True

    def given() -> int:
        return min(n_tasks, oldest + AHEAD * n_nodes)

    def slowest() -> int | None:
        late = [(begun, task) for task, begun, _ in running.values() if task not in copied]
        begun, task = min(late, default=(now, -1))
        return task if task >= 0 and now - begun > 2 * world.task else None

    def lose(node: int, noticed: float, back: float) -> None:
        nonlocal n_lost
        age[node] += 1  # what it was at comes to nothing
        n_lost += 1
        if node in running:
            at(now + noticed, "again", node, running.pop(node)[0])
        elif node in idle:
            idle.remove(node)
        at(now + back, "up", node)

    for node in range(n_nodes):
        at(world.begin, "up", node)
        if world.lost and not kills:
            at(draw.exponential(3600 / world.lost), "lost", node)
    while n_done < n_tasks:
        now, _, what, node, value = heapq.heappop(events)
        if what == "lost":
            lose(node, world.noticed, world.back)
            at(now + world.back + draw.exponential(3600 / world.lost), "lost", node)
        elif what == "again":
            again.append((value, given()))
        elif what == "up":
            idle.append(node)
        elif value == age[node]:
            task, _, seconds = running.pop(node)
            idle.append(node)
            if not done[task]:
                done[task] = True
                n_done, useful = n_done + 1, useful + seconds
                while oldest < n_tasks and done[oldest]:
                    oldest += 1
            if due and n_done >= due[0]:
                due.pop(0)
                lose(n_lost % n_nodes, 0.0, world.begin)
        while idle and give(idle[-1]):
            idle.pop()
    ideal = n_tasks * world.task * math.exp(world.spread**2 / 2) / float((1 / factor).sum())
    return {
        "seconds": round(float(now), 1),
        "of_ideal": round(float(now) / ideal, 3),
        "of_use": round(float(useful / (now * n_nodes)), 3),
        "lost": n_lost,
        "copies": n_copies,
    }


def time_tasks(args: argparse.Namespace, half: int) -> list[float]:
    """Seconds until the first task is done, and of each after it."""
    start = time.perf_counter()
    import torch

    from mfavbs import load_encoder, open_images
    from mfavbs.features import Encoding, FeatureCache, ImageViews, Part
    from mfavbs.images import IMAGE_MEMORY, Views

    torch.set_num_threads(1)
    images = open_images(args.source)
    encoder = load_encoder(args.encoder, weights=args.weights, image_size=args.image_size)
    encoder.to_device(torch.device("cpu"))
    views = Views(encoder.image_size, 5, 0, framing=encoder.framing)
    dataset = ImageViews(images, views, None, IMAGE_MEMORY, {}, FeatureCache())
    encoding, seconds = Encoding(encoder, views), []
    rows = np.random.default_rng(half).permutation(len(images))
    for at in range(0, args.tasks * IMAGES, IMAGES):
        begun = time.perf_counter() if seconds else start
        for batch in np.split(rows[at : at + IMAGES], IMAGES // 4):
            encoding.encode(Part([dataset[int(row)] for row in batch]))
        seconds.append(time.perf_counter() - begun)
    return seconds


def time_both(args: argparse.Namespace) -> list[list[float]]:
    """Seconds of tasks in two of Ray's processes side by side."""
    set_up(None)
    import ray

    with connected(None, 2):
        timed = ray.remote(time_tasks).options(num_cpus=1)
        return ray.get([timed.remote(args, half) for half in range(2)])


def world_of(found: list[list[float]]) -> World:
    """The world in which tasks take what was measured."""
    logs = np.log([seconds for each in found for seconds in each[1:]])
    task = math.exp(logs.mean())
    begin = statistics.mean(each[0] for each in found) - task
    return World(task, float(logs.std()), 0.0, begin=begin)


def against_ray(args: argparse.Namespace) -> None:
    """Predicted and measured seconds of a Ray of two processes, undisturbed and with kills."""
    from mfavbs import open_images

    spawn = multiprocessing.get_context("spawn")
    n_tasks = math.ceil(len(open_images(args.source)) / IMAGES)
    for how in (RAY, KILLED):
        before = time_both(args)
        with tempfile.TemporaryDirectory() as folder:
            answer = spawn.SimpleQueue()
            process = spawn.Process(target=encode, args=(how, args, Path(folder) / "s", answer))
            process.start()
            process.join()
            figures = answer.get()
        # Before and after: the machine may have become busier or less so.
        world = world_of(before + time_both(args))
        runs = [simulate(world, 2, n_tasks, s, figures["killed"])["seconds"] for s in range(20)]
        predicted = statistics.median(runs) - world.begin  # from the first task on
        measured = figures["images"] / figures["images_a_second"]
        shown = {
            "engine": how,
            "tasks": n_tasks,
            "killed": figures["killed"],
            "task_seconds": round(world.task, 3),
            "spread": round(world.spread, 3),
            "begin_seconds": round(world.begin, 1),
            "predicted_seconds": round(predicted, 1),
            "measured_seconds": round(measured, 1),
            "ratio": round(predicted / measured, 3),
        }
        print(json.dumps(shown), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="folder of images, to hold it against a Ray")
    parser.add_argument("--encoder", default="timm:mobilenetv2_100")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=8, help="timed in each of two processes")
    parser.add_argument("--hours", type=float, default=0.5, help="that the work would take")
    args = parser.parse_args()
    args.views, args.workers = 5, 2
    if args.source:
        against_ray(args)
        return
    for n_nodes in (100, 1000):
        n_tasks = int(args.hours * 3600 / World().task * n_nodes)
        for slow in (0.0, 0.2, 0.5):
            for lost in (0.0, 0.1, 1.0):
                for copies in (False, True):
                    world = World(slow=slow, lost=lost, copies=copies)
                    found = simulate(world, n_nodes, n_tasks, 0)
                    about = {"nodes": n_nodes, "slow": slow, "lost_per_hour": lost}
                    print(json.dumps(about | {"with_copies": copies} | found), flush=True)


if __name__ == "__main__":
    main()
