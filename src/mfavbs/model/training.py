"""The training loop, on one screen.

In: a network, tokens (n, v, t, d), every image's neighbours (n, m).
Out: the network trained in place, and the losses of every epoch.
"""

import math
import os
import statistics
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized
from torch import Tensor

from mfavbs.devices import has_bfloat16, pick_device
from mfavbs.errors import RunError
from mfavbs.model.losses import balance_loss, cluster_loss, instance_loss
from mfavbs.model.network import Network
from mfavbs.model.pairs import Pair, disjoint_pairs, paper_pair
from mfavbs.progress import Progress

Objective = Literal["disjoint", "paper"]
# On Imagenette, seed 0: ACC 0.945 after 160 steps, 0.948 after 304, 0.945 after 608.
MIN_STEPS, MIN_EPOCHS = 300, 4
# Prototypes start as centroids and have far to go, the blocks as the identity and only little:
# at one rate for both, 8 heads on Imagenette end between 0.85 and 0.95 instead of all at 0.95.
_HEADS_FASTER = 5
_LEAST_STEPS = 11  # torch divides by the warm-up's length less one, which at 10 steps is nothing


def default_epochs(n_images: int, batch_size: int) -> int:
    """Epochs for at least ``MIN_STEPS`` steps, and at least ``MIN_EPOCHS``."""
    return max(MIN_EPOCHS, math.ceil(MIN_STEPS / math.ceil(n_images / batch_size)))


def accelerator_on(device: str) -> Accelerator:
    """An accelerator on ``device``, in bfloat16 where that is native there."""
    wanted = pick_device(device)
    if wanted.index is not None:
        torch.cuda.set_device(wanted)  # a single process of accelerate takes the current one
    precision = "bf16" if has_bfloat16(wanted) else "no"
    # accelerate has one device and precision for the whole process: undo what an earlier fit chose.
    if is_initialized():
        state = AcceleratorState()
        if state.device.type != wanted.type or state.mixed_precision != precision:
            AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=wanted.type == "cpu", mixed_precision=precision)


def train(
    network: Network,
    tokens: Tensor,
    neighbours: Tensor,
    *,
    objective: Objective = "disjoint",
    epochs: int = 20,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    instance_weight: float = 1.0,
    balance_weight: float = 1.0,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    checkpoint: Path | None = None,
    verbose: bool = False,
) -> list[dict[str, float]]:
    """Train ``network`` by the instance, cluster and balance losses.

    Parameters
    ----------
    network
        Its projection fitted, its heads started.
    tokens
        (n, v, t, d) from :meth:`Network.project`.
    neighbours
        (n, m) rows; only the disjoint objective looks at them.
    objective
        ``"paper"`` contrasts the two halves of each fused pair (arXiv 2511.08883);
        ``"disjoint"`` contrasts halves of two pairs that share no view.
    epochs, batch_size, learning_rate
        AdamW on a one-cycle schedule; batches are of ``batch_size`` images at the most, and about
        equally large.
    instance_weight, balance_weight
        Of the instance loss and of the balance loss beside the cluster loss.
    seed
        Of the batches and the pairs.
    accelerator
        Device and processes; by default accelerate's own choice.
    checkpoint
        File written after every epoch; where it exists, training goes on from it.
    verbose
        Show progress on stderr.

    Returns
    -------
    list of dict
        For each epoch ``epoch``, ``instance``, ``cluster``, ``balance``, ``total``, and the list
        ``heads`` with the cluster plus weighted balance loss of every head.
    """
    accelerator = accelerator or Accelerator()
    n, n_views = tokens.shape[:2]
    n_batches = math.ceil(n / batch_size)
    heads = list(network.cluster_heads.parameters())
    rest = [*network.mfavbs.parameters(), *network.instance_head.parameters()]
    rates = [learning_rate, _HEADS_FASTER * learning_rate]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": heads}], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=max(epochs * n_batches, _LEAST_STEPS), pct_start=0.1
    )
    about = {
        "objective": objective,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "instance_weight": instance_weight,
        "balance_weight": balance_weight,
        "seed": seed,
        "epochs": epochs,
        "n_images": n,
    }
    history = _resume(checkpoint, about, network, optimizer, schedule)
    model, optimizer = accelerator.prepare(network, optimizer)
    tokens = tokens.to(accelerator.device)

    with Progress("training", epochs, "epochs", len(history), show=verbose) as progress:
        for epoch in range(len(history), epochs):
            # An epoch is a function of the weights, the seed and its number: a resumed run
            # needs no state of any random generator.
            generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
            sums = torch.zeros(3 + network.n_cluster_heads, device=accelerator.device)
            for rows in torch.randperm(n, generator=generator).tensor_split(n_batches):
                if objective == "paper":
                    pairs: tuple[Pair, ...] = (paper_pair(rows, n_views, generator),)
                else:
                    pairs = disjoint_pairs(rows, neighbours, n_views, generator)
                instance, cluster, balance = step_losses(model, tokens, pairs)
                heads_loss = cluster + balance_weight * balance  # (h,)
                loss = instance_weight * instance + heads_loss.mean()
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                schedule.step()
                parts = torch.stack([instance, cluster.mean(), balance.mean()])
                sums += torch.cat([parts, heads_loss]).detach()
            means = (sums / n_batches).tolist()
            history.append(_summary(epoch + 1, instance_weight, means))
            _save(checkpoint, about, network, optimizer, schedule, history)
            progress.advance(1, note=f"loss {history[-1]['total']:.3f}")
    return history


def step_losses(
    model: torch.nn.Module, tokens: Tensor, pairs: tuple[Pair, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance loss (), cluster loss (h,) and balance loss (h,) of one batch of pairs.

    One pair: its two halves are contrasted. Two pairs: the first half of the one with the first
    half of the other, and apart from that the second with the second. Contrasted together, first
    and second halves would be told apart by their place alone, which is a code as good as any:
    trained so, CIFAR-10 ends in 6 clusters of 10.
    """
    row, one, other = (torch.cat(column).to(tokens.device) for column in zip(*pairs, strict=True))
    za, zb, qa, qb = model(tokens[row, one], tokens[row, other])
    pa, pb = qa.float().softmax(-1), qb.float().softmax(-1)  # (h, b, k), or (h, 2b, k) of two pairs
    if len(pairs) == 1:  # the balance of each half, as Contrastive Clustering has it
        balance = balance_loss(pa) + balance_loss(pb)
        return instance_loss(za, zb), cluster_loss(pa, pb), balance
    first = _contrast(*za.chunk(2), *pa.chunk(2, dim=1))
    second = _contrast(*zb.chunk(2), *pb.chunk(2, dim=1))
    instance, cluster, balance = ((one + two) / 2 for one, two in zip(first, second, strict=True))
    return instance, cluster, balance


def _contrast(za: Tensor, zb: Tensor, pa: Tensor, pb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    balance = balance_loss(torch.cat([pa, pb], dim=1))
    return instance_loss(za, zb), cluster_loss(pa, pb), balance


def _summary(epoch: int, instance_weight: float, means: list[float]) -> dict:
    instance, cluster, balance, *heads = means
    return {
        "epoch": epoch,
        "instance": instance,
        "cluster": cluster,
        "balance": balance,
        "total": instance_weight * instance + statistics.fmean(heads),
        "heads": heads,
    }


def _save(path: Path | None, about: dict, network, optimizer, schedule, history: list) -> None:
    if path is None:
        return
    state = {
        "about": about,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
    }
    partial = path.with_suffix(".partial")
    try:
        torch.save(state, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch's own for a full disk is the latter
        raise RunError(
            f"The checkpoint {path} cannot be written: {error}. Make room and run the same "
            "command again: it goes on from the epoch before."
        ) from error


def restore_projection(network: Network, checkpoint: Path | None) -> None:
    """Take the components of an interrupted run of the same features, if there is one.

    Fitted again they may differ by more than round-off, on another number of threads say, and the
    weights go with those that they were trained on. Those of other features are left to
    :func:`train` to refuse.
    """
    if checkpoint is None or not checkpoint.exists():
        return
    saved = _read(checkpoint)["network"]
    mean, components = saved["mean"], saved["components"]
    same = mean.shape == network.mean.shape and components.shape == network.components.shape
    if same and torch.allclose(mean, network.mean, atol=1e-4):
        network.components.copy_(components)


def _read(checkpoint: Path) -> dict:
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)  # runs no code
        if {"about", "network", "optimizer", "schedule", "history"} <= state.keys():
            return state
    except Exception as error:  # torch's own texts run to pages and advise weights_only=False
        raise _unusable(checkpoint) from error
    raise _unusable(checkpoint)


def _unusable(checkpoint: Path) -> RunError:
    return RunError(
        f"The checkpoint {checkpoint} cannot be resumed: it is damaged, or of a network of another "
        "shape. Remove it to start over."
    )


def _resume(path: Path | None, about: dict, network, optimizer, schedule) -> list:
    if path is None or not path.exists():
        return []
    fitted = {name: getattr(network, name).clone() for name in ("mean", "components")}
    state = _read(path)
    history, before = state["history"], state["about"]
    try:
        if before == about:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
    except (RuntimeError, ValueError, LookupError, TypeError) as error:  # of another shape
        raise _unusable(path) from error
    for name in about:
        if before.get(name) != about[name]:
            raise RunError(
                f"The checkpoint {path} cannot be resumed: it is of a run with "
                f"{name}={before.get(name)!r}, this one has {name}={about[name]!r}. "
                "Remove it to start over."
            )
    if not all(torch.allclose(getattr(network, name), fitted[name], atol=1e-4) for name in fitted):
        raise RunError(
            f"The checkpoint {path} cannot be resumed: it is of other features. "
            "Remove it to start over."
        )
    return history
