"""What a GPU makes of it: rates of embedding beside the card's own ceilings, in one run.

Command::

    python benchmarks/gpu.py                       # the device that --device auto finds
    python benchmarks/gpu.py --images photos       # a folder or tar of your own as well
    python benchmarks/gpu.py --quick --device cpu  # small, to see that it runs

It needs no data and no weights: images are made, networks are random. Rows appear as they are
measured; one that fails says so and the rest goes on. ``--json FILE`` keeps them.

Of each case: what one core decodes, what all workers decode and hand over, what the card crops and
colours, what it encodes from ready views, both after one another ("card"), and `mfavbs.embed` from
files to a feature store. Expect embed at 0.8 of the card, or at what the workers decode.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from gpu_embedding import embedding_rows
from gpu_table import Row, Table, rate
from gpu_training import million_row, training_rows

from mfavbs.devices import pick_device


def ceilings(table: Table, device: torch.device, quick: bool) -> None:
    """What the card itself can do: products of matrices, and copies."""
    size, n_bytes = (512, 2**24) if quick else (8192, 2**28)
    seconds = 0.2 if quick else 1.0
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        name = f"matrix product, {str(dtype).removeprefix('torch.')}, {size}"
        with table.part(name):
            a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            per_second = rate(lambda a=a, b=b: a @ b, 2 * size**3, device, seconds)
            table.add(Row(name, per_second / 1e12, "TFLOP/s"))
    there = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8, device=device)
    here = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8)
    if device.type == "cuda":
        here = here.pin_memory()
    copies = {
        "copy to the card, pinned": lambda: there.copy_(here, non_blocking=True),
        "copy from the card, pinned": lambda: here.copy_(there, non_blocking=True),
        "copy on the card, read and written": lambda: there.clone(),
    }
    for name, step in copies.items():
        with table.part(name):
            each = 2 * n_bytes if "written" in name else n_bytes
            table.add(Row(name, rate(step, each, device, seconds) / 1e9, "GB/s"))


PARTS = {
    "ceilings": lambda table, args, device: ceilings(table, device, args.quick),
    "training": training_rows,
    "million": million_row,
    "embedding": embedding_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder or tar of images, beside the made ones")
    parser.add_argument("--folder", type=Path, help="where images are made; 1.5 GB are needed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--json", type=Path, help="file for the rows")
    args = parser.parse_args()
    device = pick_device(args.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    about = {
        "device": f"{device} ({card})",
        "cores": cores,
        "python": platform.python_version(),
        **{module.__name__: module.__version__ for module in (torch, timm, np)},
    }
    print(*(f"{name} {value}" for name, value in about.items()), sep=", ", flush=True)
    table = Table()
    for name in args.only:
        with table.part(name):
            PARTS[name](table, args, device)
        if args.json:
            rows = [row._asdict() for row in table.rows]
            args.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    sys.exit(any("FAILED" in row.note for row in table.rows))


if __name__ == "__main__":
    main()
