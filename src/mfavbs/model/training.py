"""The training loop, on one screen.

In: a network, tokens (n, v, t, d), every image's neighbours (n, m).
Out: the network trained in place, and the losses of every epoch.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mfavbs.devices import has_bfloat16
from mfavbs.errors import MfavbsError
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.headed import HeadedNetwork
from mfavbs.model.losses import balance_loss, cluster_loss, instance_loss
from mfavbs.model.network import Network
from mfavbs.model.pairs import Pair, disjoint_pairs, paper_pair
from mfavbs.model.room import Rows
from mfavbs.model.sharing import ALONE, Share, shared
from mfavbs.model.stepping import Step, one_cycle, recorded
from mfavbs.progress import Progress

Objective = Literal["disjoint", "paper"]
# Prototypes start as centroids and have far to go, the blocks as the identity and only little
# (docs/experiments.md, "Start, gates and rates").
_HEADS_FASTER = 5
# Clusters contrasted in a step, drawn anew for each where there are more: the cost is quadratic.
_CONTRASTED = 256
_DRAWN = 2**18  # images whose pairs are drawn at once: each takes 200 bytes for a while
N_PAIRS = {"disjoint": 2, "paper": 1}


def train(
    network: Network,
    tokens: Rows,
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
        (n, v, t, d) from :meth:`Network.project`, on the device or, where they are too many for
        it, on the CPU or on the disk.
    neighbours
        (n, m) rows; only the disjoint objective looks at them.
    objective
        ``"paper"`` contrasts the two halves of each fused pair (arXiv 2511.08883);
        ``"disjoint"`` contrasts halves of two pairs that share no view.
    epochs, batch_size, learning_rate
        AdamW on a one-cycle schedule; batches are of ``batch_size`` images at the most, and
        equally large: the few images left over are others in every epoch.
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
    device = network.device
    n_batches = math.ceil(len(tokens) / batch_size)
    blocks = list(network.mfavbs.parameters())
    if instance_weight:
        blocks += network.instance_head.parameters()
    heads = list(network.cluster_heads.parameters())
    groups = [{"params": group} for group in (blocks, heads) if group]
    faster = [1.0, _HEADS_FASTER][-len(groups) :]
    optimizer = optimizer_of(groups, device)
    parts = {"network": network, "optimizer": optimizer}
    history = checkpoint.restore(**parts)
    neighbours = neighbours.to(device)
    rates = one_cycle(epochs * n_batches, learning_rate).to(device)
    weights = (instance_weight, balance_weight)
    with (
        shared(make_step, network, optimizer, faster, N_PAIRS[objective], *weights) as step,
        Progress("training", epochs, "epochs", len(history), show=verbose) as progress,
    ):
        for epoch in range(len(history), epochs):
            # An epoch is a function of the weights, the seed and its number: a resumed run
            # needs no state of any random generator.
            generator = torch.Generator(device).manual_seed(seed * 100_003 + epoch)
            pairs = draw_epoch(objective, neighbours, tokens.shape[1], n_batches, generator)
            pairs = pairs.to(tokens.device)
            contrasted = draw_clusters(network, n_batches, generator)
            sums = torch.zeros(3 + network.n_cluster_heads, device=device)
            for i, (image, view_a, view_b) in enumerate(pairs):  # (p b,) each
                a, b = (tokens[image, view].to(device).float() for view in (view_a, view_b))
                sums += step(rates[epoch * n_batches + i], contrasted[i], a, b)
            history.append(summary(epoch + 1, instance_weight, (sums / n_batches).tolist()))
            check_finite(network, history[-1], learning_rate)
            checkpoint.write(history, neighbours, **parts)
            progress.advance(1, note=f"loss {history[-1]['total']:.3f}")
    return history


def optimizer_of(groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """AdamW of these groups of parameters, that can be recorded on CUDA."""
    on_cuda = device.type == "cuda"
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=1e-4, fused=True, capturable=on_cuda)


def make_step(
    network: HeadedNetwork,
    optimizer: torch.optim.Optimizer,
    faster: Sequence[float],
    n_pairs: int,
    instance_weight: float,
    balance_weight: float,
    views: Callable[..., tuple[Any, Any]] = lambda a, b: (a, b),
    largest_gradient: float | None = None,
    share: Share = ALONE,
) -> Step:
    """One training step, on CUDA as one launch.

    Parameters
    ----------
    network
        On its device.
    optimizer
        From :func:`optimizer_of`, as a checkpoint left it.
    faster
        Of each of its groups, times the rate.
    n_pairs, instance_weight, balance_weight
        As in :func:`step_losses` and :func:`train`.
    views
        Makes the two views, as the network takes them, of what the step is given.
    largest_gradient
        Norm to which all gradients together are cut.
    share
        The part of every batch that goes through the network in this process.

    Returns
    -------
    Step
        Of the rate (), the clusters contrasted (c,) and what ``views`` is given: the mean losses,
        of instances, clusters and balance, and the loss of every head, (3 + h,). On CUDA the next
        call overwrites them.
    """
    parameters = list(network.parameters())
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros(
            (), dtype=torch.float32, device=network.device
        )  # it changes within what is recorded
        group["capturable"] = network.device.type == "cuda"  # a checkpoint may be of another

    def step(rate: Tensor, contrasted: Tensor, *given: Tensor) -> Tensor:
        for group, times in zip(optimizer.param_groups, faster, strict=True):
            group["lr"].copy_(times * rate)
        a, b = views(*map(share.part, given))
        rows = partial(share.whole, n=len(given[0]))
        losses = step_losses(network, a, b, n_pairs, instance_weight, contrasted, rows)
        instance, cluster, balance = losses
        heads_loss = cluster + balance_weight * balance  # (h,)
        optimizer.zero_grad()
        (instance_weight * instance + heads_loss.mean()).backward()
        share.add_up(parameters)
        if largest_gradient is not None:
            nn.utils.clip_grad_norm_(parameters, largest_gradient)
        optimizer.step()
        means = torch.stack([instance, cluster.mean(), balance.mean()])
        return torch.cat([means, heads_loss]).detach()

    # That NCCL's exchanges can be recorded with the rest is not tried: no machine for it so far.
    return recorded(step, network.device) if share.size == 1 else step


def draw_epoch(
    objective: Objective,
    neighbours: Tensor,
    n_views: int,
    n_batches: int,
    generator: torch.Generator,
) -> Tensor:
    """Row, first view and second view of the pairs of every batch, (n_batches, 3, p b).

    p is 2 for the disjoint objective and 1 for the paper's; those of one follow those of the other.
    Every image leads one pair, but for the few that are left over by batches of one size, others in
    each epoch.
    """
    n, device = len(neighbours), neighbours.device
    rows = torch.randperm(n, generator=generator, device=device)[: n - n % n_batches]

    def draw(some: Tensor) -> Tensor:
        if objective == "paper":
            pairs: tuple[Pair, ...] = (paper_pair(some, n_views, generator),)
        else:
            pairs = disjoint_pairs(some, neighbours, n_views, generator)
        return torch.stack([torch.stack(pair) for pair in pairs])  # (p, 3, c)

    drawn = torch.cat([draw(some) for some in rows.split(_DRAWN)], dim=2)  # (p, 3, n)
    return drawn.unflatten(2, (n_batches, -1)).permute(2, 1, 0, 3).flatten(2)


def draw_clusters(network: HeadedNetwork, n_batches: int, generator: torch.Generator) -> Tensor:
    """The clusters contrasted in every batch of an epoch, (n_batches, at most 256)."""
    k = network.n_clusters
    if k <= _CONTRASTED:
        return torch.arange(k, device=generator.device).expand(n_batches, k)
    drawn = torch.rand(n_batches, k, generator=generator, device=generator.device)
    return drawn.argsort(dim=1)[:, :_CONTRASTED]


def step_losses(
    network: HeadedNetwork,
    a: Any,
    b: Any,
    n_pairs: int,
    instance_weight: float = 1.0,
    contrasted: Tensor | None = None,
    whole: Callable[..., Tensor] = lambda part, dim: part,
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance loss (), cluster loss (h,) and balance loss (h,) of one batch of pairs.

    One pair: its two halves are contrasted. Two pairs: the first half of the one with the first
    half of the other, and apart from that the second with the second. Contrasted together, first
    and second halves would be told apart by their place alone, which is a code as good as any:
    trained so, CIFAR-10 ends in 6 clusters of 10.

    Parameters
    ----------
    network
        It makes representations (p b, d) of the first and of the second view of every pair.
    a, b
        Those views, as the network takes them: (p b, t, d) tokens for :class:`Network`.
    n_pairs
        p, pairs for each image: 1 or 2.
    instance_weight
        At 0 the instance loss is 0, and its head is not asked.
    contrasted
        Numbers of the clusters that are contrasted; all by default.
    whole
        Of a part of a batch, and the dimension along which it is one, makes the whole batch.
    """
    device = network.device
    # The cache of weights in bfloat16 is emptied when the outermost autocast ends: within another
    # one, the caller's say, every step would see the weights of the first.
    low = has_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False):
        halves = network(a, b)  # (p b, d) each
        answers = [network.cluster_heads(half).float().softmax(-1) for half in halves]  # (h, pb, k)
        embedded = [network.instance_head(half) for half in halves if instance_weight]  # (p b, e)
    answers = [whole(answer, dim=1) for answer in answers]
    embedded = [whole(z.float(), dim=0) for z in embedded]
    if n_pairs == 1:
        balance = balance_loss(answers[0]) + balance_loss(answers[1])  # as Contrastive Clustering
        positives, instances = [answers], [embedded] if instance_weight else []
    else:
        balance = (balance_loss(answers[0]) + balance_loss(answers[1])) / 2
        positives = [answer.chunk(2, dim=1) for answer in answers]
        instances = [z.chunk(2) for z in embedded]
    if contrasted is not None and len(contrasted) < answers[0].shape[-1]:
        positives = [[p[..., contrasted] for p in pair] for pair in positives]
    cluster = torch.stack([cluster_loss(p, q) for p, q in positives]).mean(0)
    instance = torch.stack([instance_loss(*pair) for pair in instances] or [balance.new_zeros(())])
    return instance.mean(), cluster, balance


def summary(epoch: int, instance_weight: float, means: list[float]) -> dict:
    """What stands in the history of an epoch, from the means over its steps."""
    instance, cluster, balance, *heads = means
    return {
        "epoch": epoch,
        **({"instance": instance} if instance_weight else {}),
        "cluster": cluster,
        "balance": balance,
        "total": instance_weight * instance + statistics.fmean(heads),
        "heads": heads,
    }


def check_finite(network: HeadedNetwork, losses: dict, learning_rate: float) -> None:
    """Refuse to go on with an epoch whose loss or weights are no numbers."""
    if math.isfinite(losses["total"]) and all(p.isfinite().all() for p in network.parameters()):
        return
    raise MfavbsError(
        f"The training diverged in epoch {losses['epoch']}: the loss is {losses['total']}, or a "
        f"weight is no number any more. Give a learning_rate below {learning_rate}."
    )
