"""Several processes of one command against one: losses, labels, seconds.

Commands::

    python benchmarks/processes.py FEATURES -k 10 --processes 2 --device cpu

FEATURES is a feature store, or whatever `mfavbs cluster` takes. It is clustered by one process and
by several, which torchrun starts. Every line printed is a JSON object: the seconds of either, then
the largest relative difference of a loss of any epoch and head, and the adjusted Rand index between
the two labellings.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import adjusted_rand_score


def cluster(args: argparse.Namespace, n: int, run: Path) -> None:
    """Cluster by so many processes, and print the seconds."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    command = [sys.executable, *(launcher if n > 1 else []), "-m", "mfavbs", "cluster"]
    command += [args.source, "-k", args.k, "--device", args.device, "--seed", args.seed]
    command += ["--objective", args.objective, "--no-map", "--quiet", "--out", run]
    begin = time.monotonic()
    subprocess.run(list(map(str, command)), check=True)
    seconds = round(time.monotonic() - begin, 1)
    training = json.loads((run / "metrics.json").read_text())["seconds"]["training"]
    print(json.dumps({"processes": n, "seconds": seconds, "training": training}), flush=True)


def losses(run: Path) -> np.ndarray:
    """(epochs, heads)."""
    epochs = json.loads((run / "metrics.json").read_text())["losses"]
    return np.array([epoch["heads"] for epoch in epochs])


def clusters(run: Path) -> np.ndarray:
    """(n,)."""
    return pq.read_table(run / "labels.parquet")["cluster"].to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("-k", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--objective", default="disjoint")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, several = Path(folder) / "one", Path(folder) / "several"
        cluster(args, 1, one)
        cluster(args, args.processes, several)
        a, b = losses(one), losses(several)
        found = {
            "epochs": len(a),
            "largest_difference_of_losses": float(np.abs((a - b) / a).max()),
            "ari": adjusted_rand_score(clusters(one), clusters(several)),
        }
        print(json.dumps(found))


if __name__ == "__main__":
    main()
