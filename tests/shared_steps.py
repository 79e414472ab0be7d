"""Steps of a training, made alone or as one of several processes that share them.

As a script, in: rank, size, a folder and what to do. Out: RANK.pt in the folder.
"""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from feature_blobs import blobs, small_network

from mfavbs.model.sharing import ALONE, Share
from mfavbs.model.stepping import one_cycle
from mfavbs.model.training import make_step, optimizer_of

N_STEPS = 5


def steps(share=ALONE, *, n_pairs=2, instance_weight=0.5):
    """Losses (steps, 3 + h) and the weights after some steps on batches of 7 images, 2 views."""
    network, tokens = small_network(blobs(42)[0])
    tokens = tokens.double()
    network.double()  # apart by round-off only, and that is then small
    optimizer = optimizer_of([{"params": list(network.parameters())}], network.device)
    step = make_step(network, optimizer, [1.0], n_pairs, instance_weight, 0.1, share=share)
    rates, clusters = one_cycle(N_STEPS, 1e-2), torch.arange(3)
    losses = []
    for i in range(N_STEPS):
        batch = tokens[7 * i : 7 * (i + n_pairs)]
        losses.append(step(rates[i], clusters, batch[:, 0], batch[:, 1]).clone())
    return {"losses": torch.stack(losses), **network.state_dict()}


def sums(share):
    """Gradients of |sum of all rows of x w|^2 / 2, of which each process has a part of x."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    w = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    part = share.part(x).clone().requires_grad_()
    whole = share.whole(part @ w, 7)
    (whole.sum(0).square().sum() / 2).backward()
    share.add_up([w])
    return {"x": x, "w": w.detach(), "whole": whole.detach(), "d_part": part.grad, "d_w": w.grad}


if __name__ == "__main__":
    rank, size, folder, asked = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    store = dist.FileStore(str(folder / "store"), size)
    about = {"store": store, "rank": rank, "world_size": size, "timeout": timedelta(seconds=120)}
    dist.init_process_group("gloo", **about)
    share = Share(rank, size)
    what = {"sums": sums, "disjoint": steps, "paper": lambda s: steps(s, n_pairs=1)}
    torch.save(what[asked](share), folder / f"{rank}.pt")
    dist.destroy_process_group()
