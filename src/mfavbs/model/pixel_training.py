"""The training loop from pixels, and the epoch that is kept.

In: a network, the views of images, every image's neighbours (n, m).
Out: the network of the epoch that a label-free criterion names, and the history of all of them.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.pixel_network import PixelNetwork
from mfavbs.model.pixel_views import PixelViews
from mfavbs.model.sharing import shared
from mfavbs.model.stem import PixelView
from mfavbs.model.stepping import one_cycle
from mfavbs.model.training import (
    N_PAIRS,
    Objective,
    check_finite,
    draw_clusters,
    draw_epoch,
    make_step,
    optimizer_of,
    summary,
)
from mfavbs.progress import Progress, say

_STARTED_SLOWER = 0.1  # what the frozen run has learned moves by this part of the rate
_LARGEST_GRADIENT = 1.0  # norm of all gradients together
_UNMEASURED, _MEASURED = 5, 10  # steps in which libraries set themselves up, and those after them

Judge = Callable[[int], dict[str, Any]]


class Best:
    """The weights of the epoch with the least criterion so far, on the CPU."""

    def __init__(self) -> None:
        self.epoch = -1
        self.value = math.inf
        self.weights: dict[str, Tensor] = {}

    def see(self, network: nn.Module, epoch: int, value: float | None) -> None:
        """Keep this epoch's weights if they are better, or if nothing says which are."""
        if value is not None and value >= self.value:
            return
        self.epoch, self.value = epoch, math.inf if value is None else value
        self.weights = {name: x.detach().cpu().clone() for name, x in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        return {"epoch": self.epoch, "value": self.value, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what was kept."""
        self.epoch, self.value = state["epoch"], state["value"]
        self.weights = dict(state["weights"])


def train_pixels(
    network: PixelNetwork,
    views: PixelViews,
    neighbours: Tensor,
    judge: Judge,
    *,
    objective: Objective = "disjoint",
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    instance_weight: float = 1.0,
    balance_weight: float = 1.0,
    augment: str = "default",
    recipe: str = "colours",
    anchor_drop: float = 0.1,
    keep: str = "best",
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
    verbose: bool = False,
) -> tuple[list[dict], Best]:
    """Train ``network`` on views drawn as it goes, and leave it with the weights of the best epoch.

    Parameters
    ----------
    network
        On its device; from a frozen run or not.
    views
        Of the n images.
    neighbours
        (n, m) rows; only the disjoint objective looks at them.
    judge
        Of an epoch's number, 0 for the start: what is to stand in its history. Its ``criterion``
        is least for the epoch that is kept; without one the last is.
    objective, epochs, batch_size, instance_weight, balance_weight, seed, checkpoint, verbose
        As in :func:`mfavbs.model.training.train`.
    learning_rate
        Peak of the one-cycle schedule of AdamW; what the frozen run gave moves by a tenth of it.
    augment
        How far the colours of a view may go.
    recipe
        What is done to some of the views after that, see :class:`mfavbs.model.EndToEnd`.
    anchor_drop
        Share of the views whose anchor is withheld.
    keep
        The ``"best"`` epoch by ``judge``, or the ``"last"``.

    Returns
    -------
    history : list of dict
        For epoch 0 what ``judge`` said, for every other also its losses.
    best : Best
        The epoch whose weights the network has.

    Raises
    ------
    MfavbsError
        If the loss or a weight is no longer a finite number; the checkpoint is that of the epoch
        before.
    """
    checkpoint = checkpoint or Checkpoint(None, {})
    n_batches = math.ceil(len(views) / batch_size)
    optimizer, faster = _optimizer(network)
    best = Best()
    parts = {"network": network, "optimizer": optimizer, "best": best}
    history = checkpoint.restore(**parts)
    neighbours = neighbours.to(network.device)
    rates = one_cycle(epochs * n_batches, learning_rate).to(network.device)
    weights = (instance_weight, balance_weight)
    forecast = _Forecast(network.device, n_batches, epochs, show=verbose)
    if not history:
        history.append({"epoch": 0, **judge(0)})
        forecast.judged()
        best.see(network, 0, history[0].get("criterion") if keep == "best" else None)
    forecast.begin(len(views), len(history) - 1)
    with (
        shared(
            make_step,
            network,
            optimizer,
            faster,
            N_PAIRS[objective],
            *weights,
            views=_two_views,
            largest_gradient=_LARGEST_GRADIENT,
        ) as step,
        Progress("training", epochs, "epochs", len(history) - 1, show=verbose) as progress,
    ):
        for epoch in range(len(history), epochs + 1):
            # As in `train`: an epoch is a function of the weights, the seed and its number.
            number = seed * 100_003 + epoch - 1
            generator = torch.Generator(network.device).manual_seed(number)
            colours = torch.Generator().manual_seed(number)
            pairs = draw_epoch(objective, neighbours, views.n_views, n_batches, generator)
            contrasted = draw_clusters(network, n_batches, generator)
            sums = torch.zeros(3 + network.n_cluster_heads, device=network.device)
            network.train()
            begun = time.monotonic()
            for i, (image, *which) in enumerate(pairs.cpu()):  # (p b,) each
                asked = (augment, anchor_drop, colours, recipe)
                a, b = views.pair(image, (which[0], which[1]), *asked)
                rate = rates[(epoch - 1) * n_batches + i]
                sums += step(rate, contrasted[i], *a, *b)
                forecast.step()
            # Reading the sums waits for the device.
            entry = summary(epoch, instance_weight, (sums / n_batches).tolist())
            speed = 2 * pairs[:, 0].numel() / (time.monotonic() - begun)
            check_finite(network, entry, learning_rate)
            history.append(entry | judge(epoch))
            best.see(network, epoch, history[-1].get("criterion") if keep == "best" else None)
            checkpoint.write(history, neighbours, **parts)
            progress.advance(1, note=f"loss {entry['total']:.3f}, {speed:,.0f} views/s")
    network.load_state_dict(best.weights)
    network.eval()
    return history, best


class _Forecast:
    """What a person is told before it takes hours, from ten measured steps."""

    def __init__(self, device: torch.device, n_steps: int, n_epochs: int, *, show: bool) -> None:
        self.device, self.n_steps, self.n_epochs, self.show = device, n_steps, n_epochs, show
        # All within the first epoch, at whose end more is done.
        self.first = min(_UNMEASURED, (n_steps + 1) // 2)
        self.last = min(self.first + _MEASURED, n_steps)
        self.start = time.monotonic()
        self.judging = 0.0  # seconds an epoch
        self.n_made = 0

    def judged(self) -> None:
        """The first epoch was judged since this was made."""
        self.judging = time.monotonic() - self.start

    def begin(self, n_images: int, n_done: int) -> None:
        """Say what is to be done, with so many epochs behind."""
        self.n_epochs -= n_done
        if self.show and self.n_epochs:
            epochs = f"{self.n_epochs:,} epochs" if self.n_epochs > 1 else "1 epoch"
            steps = f"{self.n_steps:,} steps" if self.n_steps > 1 else "1 step"
            say(f"From pixels: {n_images:,} images, {epochs} of {steps}")

    def step(self) -> None:
        """One more was made: after some of them say how long all will take."""
        self.n_made += 1
        if not self.show or self.n_made not in (self.first, self.last):
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        if self.n_made > self.first:
            each = (now - self.start) / (self.last - self.first)
            minutes = self.n_epochs * (self.n_steps * each + self.judging) / 60
            say(f"A step takes {1000 * each:,.0f} ms: about {minutes:,.0f} minutes in all")
        self.start = now


def _optimizer(network: PixelNetwork) -> tuple[torch.optim.Optimizer, list[float]]:
    """An optimiser, and of each of its groups the part of the learning rate that it gets."""
    started = network.started()
    given = {id(parameter) for parameter in started}
    new = [parameter for parameter in network.parameters() if id(parameter) not in given]
    groups = [{"params": group} for group in (new, started) if group]
    return optimizer_of(groups, network.device), [1.0, _STARTED_SLOWER][: len(groups)]


def _two_views(*parts: Tensor) -> tuple[PixelView, PixelView]:
    return PixelView(*parts[:3]), PixelView(*parts[3:])
