"""How much of the machine's matrix rate the training loop reaches.

Command::

    python benchmarks/training.py

The floor is a product of square float32 matrices (1,024), timed in turns with the loop. The loop's
operations are what torch counts for the products of one step, forward and backward, at the default
sizes; element-wise work (normalisation, softmax, GELU, the optimiser) counts as none, so a ratio
of 1 cannot be reached. What was measured, and when, stands in docs/performance.md.
"""

import argparse
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import Network, mean_view
from mfavbs.model.training import draw_epoch, step_losses, train

EDGE = 1024


def matrix_rate(device: str) -> float:
    """Operations a second of a large product in float32."""
    a, b = torch.randn(2, EDGE, EDGE, device=device)
    for _ in range(5):
        a @ b
    start = time.perf_counter()
    for _ in range(20):
        c = a @ b
    c.sum().item()  # waits for a GPU as well
    return 20 * 2 * EDGE**3 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=1)
    parser.add_argument("--fusion", default="none")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)

    torch.manual_seed(0)
    network = Network(128, args.tokens, 10, fusion=args.fusion, gate=0.05)
    tokens = torch.randn(args.images, 5, args.tokens, 128)
    neighbours = nearest_neighbours(mean_view(tokens), 10)
    with FlopCounterMode(display=False) as counter:
        pairs = draw_epoch("disjoint", neighbours[: args.batch_size], 5, 1, torch.Generator())
        image, view_a, view_b = pairs[0]
        a, b = tokens[image, view_a], tokens[image, view_b]
        instance, cluster, balance = step_losses(network, a, b, 2, 0.0)
        (instance + (cluster + 0.1 * balance).mean()).backward()
    steps = -(-args.images // args.batch_size)
    rates, peaks = [], []
    for _ in range(args.runs):
        peaks.append(matrix_rate("cpu"))
        start = time.perf_counter()
        train(
            network,
            tokens,
            neighbours,
            epochs=1,
            batch_size=args.batch_size,
            instance_weight=0.0,
            balance_weight=0.1,
        )
        rates.append(counter.get_total_flops() * steps / (time.perf_counter() - start))
    ratios = sorted(rate / peak for rate, peak in zip(rates, peaks))
    middle, least, most = statistics.median(ratios), ratios[0], ratios[-1]
    print(f"threads               {torch.get_num_threads()}")
    print(
        f"operations a step     {counter.get_total_flops() / 1e9:.2f} G, {args.batch_size} images"
    )
    print(f"product of {EDGE} edge  {statistics.median(peaks) / 1e9:.0f} G operations a second")
    print(f"training              {statistics.median(rates) / 1e9:.0f} G operations a second")
    print(f"ratio                 {middle:.2f} ({least:.2f} to {most:.2f})")


if __name__ == "__main__":
    main()
