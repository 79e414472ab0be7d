"""The rows of ``gpu.py`` that begin with features: a training step, whole fits, the demo."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gpu_table import Row, Table, wait_for
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from mfavbs import MFAVBsClustering

N_VIEWS, WIDTH = 5, 512


def blobs(
    n: int, k: int, device: torch.device, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 5, 1, 512) float16 of k clusters, made on the device; and the clusters."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    centres = normal(k, WIDTH)
    features = np.empty((n, N_VIEWS, 1, WIDTH), np.float16)
    y = torch.arange(n, device=device) % k
    for rows in torch.arange(n, device=device).split(20_000):
        image = centres[y[rows]] + noise * normal(len(rows), WIDTH)
        views = image[:, None] + 0.5 * normal(len(rows), N_VIEWS, WIDTH)
        features[rows.cpu().numpy(), :, 0] = views.half().cpu().numpy()
    return features, y.cpu().numpy()


def now(device: torch.device) -> float:
    wait_for(device)
    return time.perf_counter()


def fit(n: int, k: int, device: torch.device, **parameters: Any) -> tuple[Any, Row]:
    """A fitted model of n made images, and its row: seconds, by stage, and how right it is."""
    features, y = blobs(n, k, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = now(device)
    model = MFAVBsClustering(k, device=str(device), random_state=0, **parameters).fit(features)
    whole = now(device) - start
    seconds = model.stages_.seconds  # of work that a stage leaves to the card the next one waits
    note = ", ".join(f"{name} {s:.2f}" for name, s in seconds.items())
    note += f"; ARI {adjusted_rand_score(y, model.labels_):.3f}"
    if device.type == "cuda":
        note += f"; {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the card"
    steps = -(-n // max(256, k // 2)) * len(model.loss_history_)
    note += f"; a step {1e3 * seconds['epochs'] / steps:.2f} ms, {steps} of them"
    return model, Row(f"{n:,} x {WIDTH}, k = {k}, features to labels", whole, "s", note)


def agreement(device: torch.device) -> Iterator[Row]:
    """CPU against the device, and the device against itself, as adjusted Rand index."""
    digits = load_digits().data
    for name, features, k in (("digits", digits, 10), ("blobs", blobs(2000, 10, device)[0], 10)):
        labels = [
            MFAVBsClustering(k, device=where, random_state=seed).fit_predict(features)
            for where, seed in ((str(device), 0), (str(device), 0), ("cpu", 0), ("cpu", 1))
        ]
        same = float(np.array_equal(labels[0], labels[1]))
        yield Row(f"{name}: the same seed, the same labels", same, "", "1 is yes")
        between = adjusted_rand_score(labels[0], labels[2])
        seeds = adjusted_rand_score(labels[2], labels[3])
        yield Row(f"{name}: device and CPU", between, "ARI", f"two seeds on the CPU {seeds:.3f}")


def demo(device: torch.device) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "mfavbs", "demo", "--out", folder + "/run", "--quiet"]
        subprocess.run(command, check=True, cwd=folder)
        return Row("mfavbs demo, from process start", time.perf_counter() - start, "s")


def training_rows(table: Table, args: argparse.Namespace, device: torch.device) -> None:
    """Fits of growing size, of which the first is made twice: libraries load in it."""
    sizes = [(500, 5), (1000, 5)] if args.quick else [(10_000, 10), (100_000, 100)]
    for n, k in [sizes[0], *sizes]:
        with table.part(f"{n:,} x {WIDTH}"):
            table.add(fit(n, k, device)[1])
    with table.part("agreement"):
        for row in agreement(device):
            table.add(row)
    with table.part("demo"):
        table.add(demo(device))


def million_row(table: Table, args: argparse.Namespace, device: torch.device) -> None:
    """A million images in a thousand clusters; 5 GB of features."""
    n, k = (2000, 20) if args.quick else (1_000_000, 1000)
    table.add(fit(n, k, device)[1])
