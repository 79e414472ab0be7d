"""From pixels and a frozen run to a trained network and every image's probabilities.

In: pixels (n, h, w, 3), crops (n, v, m), features (n, v, 1, f), the parameters of
:class:`mfavbs.model.EndToEnd`.
Out: the network, the head that answers, probabilities (n, k), the history, the epoch kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mfavbs.devices import is_out_of_memory, pick_device
from mfavbs.errors import MfavbsError, SourceError
from mfavbs.model.answers import BANK_ROWS
from mfavbs.model.assignment import average_with_neighbours
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.copies import find_copies
from mfavbs.model.defaults import AUTO
from mfavbs.model.estimator import MFAVBsClustering
from mfavbs.model.isolation import DrawnFrom
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import mean_view
from mfavbs.model.pixel_answers import assign_pixels, judge_heads
from mfavbs.model.pixel_network import PixelNetwork
from mfavbs.model.pixel_training import Judge, train_pixels
from mfavbs.model.pixel_views import PixelViews

_NEAR_ZERO = 1e-3  # gates at the start: epoch 0 answers as the frozen run
_JUDGED = 5000  # images by which an epoch is judged, and 20 for each cluster at least
_CHUNK = 1024  # images hashed at once
_PROJECTED = 4096  # images whose views are projected at once
_OF_TRAINING = (
    *("objective", "epochs", "batch_size", "learning_rate", "instance_weight", "balance_weight"),
    *("augment", "recipe", "anchor_drop", "keep", "verbose"),
)
_OF_BLOCKS = ("n_blocks", "shared_depth", "fused_depth", "fusion", "gate")
_NOT_ABOUT = ("device", "verbose", "random_state")  # what an interrupted run need not agree on


class FittedPixels(NamedTuple):
    """A trained network, the head that answers, (n, k) probabilities, history, the epoch kept."""

    network: PixelNetwork
    head: int
    probabilities: np.ndarray
    history: list[dict]
    epoch: int


def resolve_pixels(frozen: MFAVBsClustering | None, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with a value each, those of the frozen run where they are its.

    Raises
    ------
    SourceError
        If two of them do not go together.
    """
    chosen = dict(parameters)
    chosen["anchor"] = frozen is not None and chosen["anchor"]
    if not chosen["anchor"]:
        chosen |= {"start": "random", "anchor_widths": []}
    auto = AUTO[chosen["objective"]]
    chosen["n_cluster_heads"] = auto["n_cluster_heads"]
    if frozen is not None:
        network = frozen.network_
        chosen["n_clusters"] = network.n_clusters
        if chosen["anchor"]:
            chosen["anchor_widths"] = list(chosen["anchor_widths"] or [network.n_features])
        if chosen["start"] == "frozen":
            chosen |= {"dim": network.width, "n_cluster_heads": network.n_cluster_heads}
    # Prototypes can be started from, projectors are what the paper's ancestors have.
    chosen["projectors"] = chosen["objective"] == "paper" and chosen["start"] == "random"
    for name in ("instance_weight", "balance_weight"):
        if chosen[name] == "auto":
            chosen[name] = auto[name]
    if chosen["gate"] == "auto":
        chosen["gate"] = _NEAR_ZERO if chosen["start"] == "frozen" else None
    check_together(chosen)
    return chosen


def check_together(chosen: dict[str, Any]) -> None:
    """Refuse parameters that do not go with each other; see :func:`resolve_pixels`."""
    k, dim, n_heads = (chosen[name] for name in ("n_clusters", "dim", "n_attention_heads"))
    if k is None:
        raise SourceError("expected n_clusters=, or frozen=, a fitted MFAVBsClustering; got none")
    if dim % n_heads or dim % 8:
        raise SourceError(f"dim={dim} should be a multiple of 8 and of n_attention_heads={n_heads}")
    if k > 2 * chosen["batch_size"]:
        raise SourceError(
            f"n_clusters={k} should be <= 2 * batch_size={chosen['batch_size']}: in smaller "
            "batches most clusters have no image to be contrasted by. Raise batch_size."
        )


def fit_pixels(
    frozen: MFAVBsClustering | None,
    parameters: dict[str, Any],
    pixels: np.ndarray,
    crops: np.ndarray,
    features: np.ndarray | None,
    checkpoint: Path | None = None,
) -> FittedPixels:
    """Train a network from pixels by the parameters of :class:`mfavbs.model.EndToEnd`."""
    chosen = resolve_pixels(frozen, parameters)
    n, k, seed = len(pixels), chosen["n_clusters"], chosen["random_state"]
    if n < k:
        raise SourceError(f"{n} images should be >= n_clusters={k}; lower it or add images")
    device = pick_device(chosen["device"])
    rows, content, digest = _contents(n, k, features)
    told = features if chosen["anchor"] else None
    views = PixelViews(pixels, crops, told, chosen["image_size"], device, rows)
    saved = Checkpoint(None, {})
    if checkpoint is not None:
        hashes = {"features": digest, "pixels": _hash_of(pixels, crops)}
        saved = Checkpoint(checkpoint, _about(chosen, frozen) | hashes)
    embeddings, neighbours = None, torch.arange(len(rows))[:, None]
    if frozen is not None and features is not None:
        embeddings = _embeddings(frozen, features, rows).to(device)  # (m, d)
        # As in `fit_network`: half of what a cluster holds on average.
        m = min(chosen["n_neighbors"], len(rows) - 1, max(3, len(rows) // (2 * k)))
        neighbours = nearest_neighbours(embeddings, m) if m else neighbours
    network = build_pixel_network(chosen, frozen).to(device)
    judge = _judge(network, views, embeddings, frozen, chosen)
    options = {name: chosen[name] for name in _OF_TRAINING}
    with _with_advice(chosen, device):
        history, best = train_pixels(
            network, views, neighbours, judge, seed=seed, checkpoint=saved, **options
        )
        head = _head(history[best.epoch])
        probabilities = _answer(network, views, head, _is_averaged(frozen, chosen), seed)
    return FittedPixels(network, head, probabilities.cpu().numpy()[content], history, best.epoch)


def build_pixel_network(chosen: dict[str, Any], frozen: MFAVBsClustering | None) -> PixelNetwork:
    """An untrained network by parameters with a value each, started as they say."""
    with DrawnFrom(torch.Generator().manual_seed(chosen["random_state"])):
        network = PixelNetwork(
            chosen["n_clusters"],
            chosen["n_cluster_heads"],
            chosen["dim"],
            image_size=chosen["image_size"],
            anchor_widths=chosen["anchor_widths"],
            projectors=chosen["projectors"],
            n_heads=chosen["n_attention_heads"],
            **{name: chosen[name] for name in _OF_BLOCKS},
        ).float()  # whatever the caller's default type
        if frozen is not None and chosen["start"] == "frozen":
            network.start_from(frozen.network_)
    return network


def _judge(
    network: PixelNetwork,
    views: PixelViews,
    embeddings: Tensor | None,
    frozen: MFAVBsClustering | None,
    chosen: dict[str, Any],
) -> Judge:
    """What says of an epoch how well its answers are foretold; nothing without a frozen run."""
    if embeddings is None:
        return lambda epoch: {}
    generator = torch.Generator().manual_seed(chosen["random_state"])
    most = max(_JUDGED, 20 * chosen["n_clusters"])
    rows = torch.randperm(len(views), generator=generator)[:most].sort().values.numpy()
    averaged = _is_averaged(frozen, chosen)

    def judge(epoch: int) -> dict[str, Any]:
        found = judge_heads(network, views, embeddings, rows, chosen["balance_weight"], averaged)
        as_frozen = frozen is not None and epoch == 0 and chosen["start"] == "frozen"
        head = frozen.head_ if frozen is not None and as_frozen else int(found.argmin())
        return {"criterion": float(found[head]), "head": head}

    return judge


def _is_averaged(frozen: MFAVBsClustering | None, chosen: dict[str, Any]) -> bool:
    """Whether answers are averaged over neighbours, as the frozen run does it."""
    return frozen is not None and chosen["start"] == "frozen" and frozen.network_.n_kept > 0


def _head(entry: dict[str, Any]) -> int:
    """The head that was judged the best, else that of the least training loss."""
    losses = entry.get("heads", [0.0])
    return entry["head"] if "head" in entry else losses.index(min(losses))


def _answer(
    network: PixelNetwork, views: PixelViews, head: int, averaged: bool, seed: int
) -> Tensor:
    """Probabilities (m, k) of one head, with those of the images that the network then keeps."""
    if averaged:
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(len(views), generator=generator)[:BANK_ROWS].sort().values.numpy()
        probabilities, representations = assign_pixels(network, views, slice(head, head + 1), kept)
        network.keep(probabilities[0].half(), representations.half())
    return answer_pixels(network, views, head)


def answer_pixels(network: PixelNetwork, views: PixelViews, head: int) -> Tensor:
    """Probabilities (n, k) of a trained network's head, with those of the images it keeps."""
    probabilities, representations = assign_pixels(network, views, slice(head, head + 1))
    if network.n_kept:
        probabilities = average_with_neighbours(
            probabilities, representations, network.bank_probabilities[None], network.bank()
        )
    return probabilities[0]


def _about(chosen: dict[str, Any], frozen: MFAVBsClustering | None) -> dict[str, Any]:
    """What a checkpoint must agree on beside the arrays; the objective first, others follow it."""
    about = {"objective": chosen["objective"]}
    about |= {name: value for name, value in chosen.items() if name not in _NOT_ABOUT}
    about["seed"] = chosen["random_state"]
    if frozen is not None:
        state = sorted(frozen.network_.state_dict().items())
        about["frozen"] = _hash_of(*(x.cpu().reshape(-1).numpy() for _, x in state))
    return about


def _embeddings(frozen: MFAVBsClustering, features: np.ndarray, rows: np.ndarray) -> Tensor:
    """(m, d) of unit length, as the frozen run has them; of a part of the images at a time."""
    parts = np.array_split(rows, -(-len(rows) // _PROJECTED))
    return torch.cat([mean_view(frozen.network_.project(features, part)) for part in parts])


def _contents(
    n: int, k: int, features: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """A row for each content, and which content a row has: copies are trained on once."""
    if features is None:
        return np.arange(n), np.arange(n), None
    rows, content, digest = find_copies(features)
    return (np.arange(n), np.arange(n), digest) if len(rows) < k else (rows, content, digest)


def _hash_of(*arrays: np.ndarray) -> str:
    total = blake2b(digest_size=16)
    for array in arrays:
        total.update(repr((array.shape, array.dtype.str)).encode())
        for start in range(0, len(array), _CHUNK):
            total.update(np.ascontiguousarray(array[start : start + _CHUNK]).data)
    return total.hexdigest()


@contextmanager
def _with_advice(chosen: dict[str, Any], device: torch.device) -> Iterator[None]:
    """Say what to do where the device has no memory left."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        batch_size = chosen["batch_size"]
        raise MfavbsError(
            f"{device} has no memory left for batch_size={batch_size} views of "
            f"{chosen['image_size']} pixels; give batch_size={max(2, batch_size // 2)}, or smaller "
            "views. The checkpoint of the last whole epoch is kept."
        ) from error
