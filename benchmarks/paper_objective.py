"""Whether anything the paper may have meant mends its own objective, from pixels.

The objective of arXiv 2511.08883 contrasts the two halves of a fused pair, which both have seen
both views: the least loss of all, and little learned. In: feature stores and their images. Out: a
JSON line for each set, method, start and seed; of every epoch the cluster loss and the scores.
Figures: docs/experiments.md.

    python benchmarks/paper_objective.py --set rsscn7 STORE rsscn7.tar 64 --start random --out FILE
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from end_to_end import end_to_end
from pixel_runs import Job, fitted, jobs_of, loaded, parser_of, run_all
from torch import Tensor

from mfavbs import score
from mfavbs.devices import has_bfloat16
from mfavbs.model import (
    PixelNetwork,
    PixelView,
    balance_loss,
    cluster_loss,
    instance_loss,
    pixel_fitting,
    pixel_training,
    training,
)
from mfavbs.model.blocks import _Attention

Positives = list[tuple[Tensor, Tensor]]  # representations (b, d) that are contrasted


class Variant(NamedTuple):
    """What is contrasted, what the views show, what becomes of the network, and parameters."""

    positives: Callable[[PixelNetwork, PixelView, PixelView], Positives] | None = None
    views: Callable[..., tuple[PixelView, PixelView]] | None = None
    changed: Callable[[PixelNetwork], None] | None = None
    options: dict[str, Any] = {}  # noqa: RUF012 (never written to)


def tokens(network: PixelNetwork, a: PixelView, b: PixelView) -> tuple[Tensor, Tensor]:
    """What the first block gets, as in the network's forward pass."""
    x, y = network.stem(a), network.stem(b)
    if network.anchor_blocks is not None:
        x, y = network._on_anchors(x, y, a.kept, b.kept)
    return x, y


def against_inputs(network: PixelNetwork, a: PixelView, b: PixelView) -> Positives:
    """Each half of the last block against what its shared ViT made of the other view alone.

    The class token that goes into the first block itself has seen nothing.
    """
    x, y = tokens(network, a, b)
    *before, last = network.mfavbs.blocks
    for block in before:
        x, y = block(x, y)
    x, y = last.shared(x), last.shared(y)
    p, q = last.fused(torch.cat([x, y], last.axis)).chunk(2, last.axis)
    return [(p[:, 0], y[:, 0]), (q[:, 0], x[:, 0])]


def one_stopped(network: PixelNetwork, a: PixelView, b: PixelView) -> Positives:
    """The halves, of which one gets no gradient."""
    p, q = network(a, b)
    return [(p, q.detach())]


def every_block(network: PixelNetwork, a: PixelView, b: PixelView) -> Positives:
    """The halves of every block."""
    x, y = tokens(network, a, b)
    found = []
    for block in network.mfavbs.blocks:
        x, y = block(x, y)
        found.append((x[:, 0], y[:, 0]))
    return found


def one_told(*parts: Tensor) -> tuple[PixelView, PixelView]:
    """Two views, of which the second comes without its anchor; answers are given with both."""
    return PixelView(*parts[:3]), PixelView(*parts[3:5], torch.zeros_like(parts[5]))


class _OwnView(_Attention):
    """Attention in which a view's class token does not look at the other view."""

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        n = x.shape[1]
        seen = torch.ones(n, n, dtype=torch.bool, device=x.device)
        seen[0, n // 2 :] = False
        seen[n // 2, : n // 2] = False
        return super().forward(x, attn_mask=seen)


def class_masked(network: PixelNetwork) -> None:
    """Patches attend across views in the larger ViT, class tokens do not.

    Were all tokens kept apart, it would be the network without fusion.
    """
    for block in network.mfavbs.blocks:
        for layer in block.fused:
            layer.attn.__class__ = _OwnView


METHODS = {
    "disjoint": Variant(options={"objective": "disjoint"}),
    "paper": Variant(),
    "paper without fusion": Variant(
        options={"fusion": "none"}
    ),  # all attention masked across views
    "against inputs": Variant(against_inputs),
    "one half stopped": Variant(one_stopped),
    "class tokens masked": Variant(changed=class_masked),
    "class tokens masked in 2 layers": Variant(changed=class_masked, options={"fused_depth": 2}),
    "anchor on one side": Variant(views=one_told),
    "anchor on one side without fusion": Variant(views=one_told, options={"fusion": "none"}),
    "2 blocks": Variant(options={"n_blocks": 2}),
    "every block of 2": Variant(every_block, options={"n_blocks": 2}),
}


def losses_of(positives: Callable[..., Positives]) -> Callable[..., tuple[Tensor, ...]]:
    """As :func:`mfavbs.model.training.step_losses` of the paper's objective, of other positives."""

    def step_losses(
        network: PixelNetwork,
        a: PixelView,
        b: PixelView,
        n_pairs: int,
        instance_weight: float = 1.0,
        contrasted: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        device = network.device
        low = has_bfloat16(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False):
            found = [_contrasted(network, *pair) for pair in positives(network, a, b)]
        instance, cluster, balance = (torch.stack(part).mean(0) for part in zip(*found))
        return instance, cluster, balance

    return step_losses


def _contrasted(network: PixelNetwork, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    p, q = (network.cluster_heads(z).float().softmax(-1) for z in (x, y))  # (h, b, k)
    instance = instance_loss(network.instance_head(x), network.instance_head(y))
    return instance, cluster_loss(p, q), balance_loss(p) + balance_loss(q)


@contextlib.contextmanager
def varied(variant: Variant) -> Iterator[None]:
    """What is trained from pixels meanwhile is trained so."""
    build = pixel_fitting.build_pixel_network

    def built(*args: Any) -> PixelNetwork:
        network = build(*args)
        if variant.changed is not None:
            variant.changed(network)
        return network

    losses = None if variant.positives is None else losses_of(variant.positives)
    patches = [
        (pixel_fitting, "build_pixel_network", built),
        (pixel_training, "_two_views", variant.views),
        (training, "step_losses", losses),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in patches]
    for module, name, new in patches:
        if new is not None:
            setattr(module, name, new)
    try:
        yield
    finally:
        for module, name, old in before:
            setattr(module, name, old)


def trained(job: Job) -> dict[str, Any]:
    """What one method made of a set."""
    data, seed = loaded(job.data), job.about["seed"]
    frozen = fitted(job.data, job.options["dim"], seed, job.options["device"])
    variant = METHODS[job.about["method"]]
    asked = {"objective": "paper", "start": job.about["start"], **variant.options}
    with varied(variant):
        found = end_to_end(job, {"frozen": frozen, **asked})
    return {"frozen": score(data.labels, frozen.labels_), **found}


def main() -> None:
    parser = parser_of(__doc__, ",".join(METHODS))
    parser.add_argument("--start", choices=["random", "frozen"], default="random")
    args = parser.parse_args()
    run_all(args, jobs_of(args, {"start": args.start}), trained)


if __name__ == "__main__":
    main()
