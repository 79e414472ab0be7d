"""The training loop, on one screen.

In: a network, tokens (n, v, t, d), every image's neighbours (n, m).
Out: the network trained in place, and the losses of every epoch.
"""

import math
import statistics
from typing import Literal

import torch
from torch import Tensor

from mfavbs.devices import has_bfloat16
from mfavbs.errors import MfavbsError
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.losses import balance_loss, cluster_loss, instance_loss
from mfavbs.model.network import Network
from mfavbs.model.pairs import Pair, disjoint_pairs, paper_pair
from mfavbs.progress import Progress

Objective = Literal["disjoint", "paper"]
# Prototypes start as centroids and have far to go, the blocks as the identity and only little
# (docs/experiments.md, "Start, gates and rates").
_HEADS_FASTER = 5
# Clusters contrasted in a step, drawn anew for each where there are more: the cost is quadratic.
_CONTRASTED = 256
_LEAST_STEPS = 11  # torch divides by the warm-up's length less one, which at 10 steps is nothing


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
    checkpoint: Checkpoint | None = None,
    verbose: bool = False,
) -> list[dict]:
    """Train ``network`` by the instance, cluster and balance losses, on the device it is on.

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
        Of the instance loss and of the balance loss beside the cluster loss. An instance loss of
        weight 0 is not computed.
    seed
        Of the batches and the pairs.
    checkpoint
        Written after every epoch, and gone on from.
    verbose
        Show progress on stderr.

    Returns
    -------
    list of dict
        For each epoch ``epoch``, ``instance`` (where it has a weight), ``cluster``, ``balance``,
        ``total``, and the list ``heads`` with the cluster plus weighted balance loss of every head.

    Raises
    ------
    MfavbsError
        If the loss or a weight is no longer a finite number.
    """
    checkpoint = checkpoint or Checkpoint(None, {})
    n_batches = math.ceil(len(tokens) / batch_size)
    blocks = list(network.mfavbs.parameters())
    if instance_weight:
        blocks += network.instance_head.parameters()
    heads = list(network.cluster_heads.parameters())
    rates = [learning_rate, _HEADS_FASTER * learning_rate]
    optimizer = torch.optim.AdamW([{"params": blocks}, {"params": heads}], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=max(epochs * n_batches, _LEAST_STEPS), pct_start=0.1
    )
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    history = checkpoint.restore(**parts)
    tokens = tokens.to(network.device)

    with Progress("training", epochs, "epochs", len(history), show=verbose) as progress:
        for epoch in range(len(history), epochs):
            # An epoch is a function of the weights, the seed and its number: a resumed run
            # needs no state of any random generator.
            generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
            sums = torch.zeros(3 + network.n_cluster_heads, device=network.device)
            for rows in torch.randperm(len(tokens), generator=generator).tensor_split(n_batches):
                pairs = _draw_pairs(objective, rows, neighbours, tokens.shape[1], generator)
                instance, cluster, balance = step_losses(
                    network, tokens, pairs, instance_weight, generator
                )
                heads_loss = cluster + balance_weight * balance  # (h,)
                loss = instance_weight * instance + heads_loss.mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses = torch.stack([instance, cluster.mean(), balance.mean()])
                sums += torch.cat([losses, heads_loss]).detach()
            history.append(_summary(epoch + 1, instance_weight, (sums / n_batches).tolist()))
            _check_finite(network, history[-1], learning_rate)
            checkpoint.write(history, neighbours, **parts)
            progress.advance(1, note=f"loss {history[-1]['total']:.3f}")
    return history


def _draw_pairs(
    objective: Objective,
    rows: Tensor,
    neighbours: Tensor,
    n_views: int,
    generator: torch.Generator,
) -> tuple[Pair, ...]:
    if objective == "paper":
        return (paper_pair(rows, n_views, generator),)
    return disjoint_pairs(rows, neighbours, n_views, generator)


def step_losses(
    network: Network,
    tokens: Tensor,
    pairs: tuple[Pair, ...],
    instance_weight: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance loss (), cluster loss (h,) and balance loss (h,) of one batch of pairs.

    One pair: its two halves are contrasted. Two pairs: the first half of the one with the first
    half of the other, and apart from that the second with the second. Contrasted together, first
    and second halves would be told apart by their place alone, which is a code as good as any:
    trained so, CIFAR-10 ends in 6 clusters of 10. Without a weight the instance loss is 0, and its
    head is not asked. Of more than 256 clusters so many are contrasted, drawn by ``generator``.
    """
    device = tokens.device
    image, view_a, view_b = (torch.cat(x).to(device) for x in zip(*pairs, strict=True))
    # The cache of weights in bfloat16 is emptied when the outermost autocast ends: within another
    # one, the caller's say, every step would see the weights of the first.
    low = has_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False):
        halves = network(tokens[image, view_a], tokens[image, view_b])  # (b, d) each, or (2b, d)
        answers = [network.cluster_heads(half).float().softmax(-1) for half in halves]  # (h, b, k)
        embedded = [network.instance_head(half) for half in halves if instance_weight]  # (b, e)
    if len(pairs) == 1:
        balance = balance_loss(answers[0]) + balance_loss(answers[1])  # as Contrastive Clustering
        positives, instances = [answers], [embedded] if instance_weight else []
    else:
        balance = (balance_loss(answers[0]) + balance_loss(answers[1])) / 2
        positives = [answer.chunk(2, dim=1) for answer in answers]
        instances = [z.chunk(2) for z in embedded]
    k = answers[0].shape[-1]
    if k > _CONTRASTED:
        some = torch.randperm(k, generator=generator)[:_CONTRASTED].to(device)
        positives = [[p[..., some] for p in pair] for pair in positives]
    cluster = torch.stack([cluster_loss(p, q) for p, q in positives]).mean(0)
    instance = torch.stack([instance_loss(*pair) for pair in instances] or [balance.new_zeros(())])
    return instance.mean(), cluster, balance


def _summary(epoch: int, instance_weight: float, means: list[float]) -> dict:
    instance, cluster, balance, *heads = means
    return {
        "epoch": epoch,
        **({"instance": instance} if instance_weight else {}),
        "cluster": cluster,
        "balance": balance,
        "total": instance_weight * instance + statistics.fmean(heads),
        "heads": heads,
    }


def _check_finite(network: Network, losses: dict, learning_rate: float) -> None:
    if math.isfinite(losses["total"]) and all(p.isfinite().all() for p in network.parameters()):
        return
    raise MfavbsError(
        f"The training diverged in epoch {losses['epoch']}: the loss is {losses['total']}, or a "
        f"weight is no number any more. Give a learning_rate below {learning_rate}."
    )
