"""From features to a trained network and every image's probabilities.

In: features (n, v, t, d), the estimator's parameters.
Out: the network, the head that answers, probabilities (n, k), the losses of every epoch.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from mfavbs.devices import is_out_of_memory, pick_device
from mfavbs.errors import MfavbsError, SourceError
from mfavbs.model.answers import PART, choose_and_answer, judged_rows
from mfavbs.model.asking import Number, checked_number, least_images
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.copies import find_copies
from mfavbs.model.defaults import resolve
from mfavbs.model.isolation import DrawnFrom
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import KMEANS_RUNS, Network, mean_view
from mfavbs.model.number import find_number
from mfavbs.model.room import (
    EMBEDDINGS,
    INDEX,
    TOKENS,
    Room,
    Rows,
    check_room,
    kmeans_rows,
    make_room,
)
from mfavbs.model.training import train
from mfavbs.progress import Stages

_OF_TRAINING = (
    "objective",
    "epochs",
    "batch_size",
    "learning_rate",
    "instance_weight",
    "balance_weight",
    "verbose",
)
# What an interrupted run need not agree on.
_NOT_ABOUT = ("device", "verbose", "random_state", "memory")
_KMEANS_ROWS = 100_000  # images that k-means is fitted on


class Fitted(NamedTuple):
    """A trained network, the number of its head that answers, (n, k) probabilities, losses.

    And how the number of clusters was found, None where it was given; and the seconds and the peak
    memory of every stage.
    """

    network: Network
    head: int
    probabilities: np.ndarray
    losses: list[dict]
    number: dict[str, Any] | None
    stages: Stages


def fit_network(
    features: np.ndarray, parameters: dict[str, Any], checkpoint: Path | None = None
) -> Fitted:
    """Train a network on features (n, v, t, d), finite, by the estimator's parameters.

    Raises
    ------
    MfavbsError
        If the device has too little memory; it says what to lower.
    """
    try:
        return _fit(features, parameters, checkpoint)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        kept = "" if checkpoint is None else " The epochs that are done are kept."
        raise MfavbsError(
            f"The device {pick_device(parameters['device'])} has too little memory to train on "
            f"{len(features):,} images. Lower batch_size= or n_cluster_heads=, close what else "
            f"runs on it, or give device='cpu'.{kept}"
        ) from error


def _fit(features: np.ndarray, parameters: dict[str, Any], checkpoint: Path | None) -> Fitted:
    asked, stages = _asked(len(features), parameters["n_clusters"]), Stages()
    room = _room(parameters, asked, features.shape[2])
    room = room._replace(folder=None if checkpoint is None else Path(checkpoint).parent)
    with stages.timed("copies"):
        rows, content, digest = find_copies(features)
    seed = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    number = None
    if isinstance(asked, int):
        k = asked
    else:  # an interrupted run goes on with what it found
        number = Checkpoint.look_up(checkpoint, "number")
        with stages.timed("number of clusters"):
            number = number or find_number(features, rows, asked, parameters["dim"], seed)
        k = number["best"]
    parameters = parameters | {"n_clusters": k}
    if len(rows) < k:
        rows = content = np.arange(len(features))
    chosen = resolve(parameters, len(rows))
    saved = _checkpoint(checkpoint, chosen, seed, digest, number)
    seed = saved.about["seed"]
    network = build_network(chosen, features.shape[3], features.shape[2], seed)
    network.to(pick_device(chosen["device"]))
    with stages.timed("projection"):
        if saved.state is None:
            network.fit_projection(features, torch.Generator().manual_seed(seed), rows)
        else:  # fitted again it may differ by round-off, on another number of threads say
            saved.restore(network=network)
        tokens, embeddings = _projected(network, features, rows, room)
    if saved.state is None:
        with stages.timed("neighbours"):
            neighbours = _neighbours(embeddings, chosen, room)
        with stages.timed("start"):
            if chosen["init"] == "k-means++":
                _start(network, embeddings, neighbours, seed, room)
    else:
        neighbours = saved.state["neighbours"]
    judged = judged_rows(network, embeddings, seed, room)
    del embeddings  # training looks at tokens alone
    with stages.timed("epochs"):
        losses = train(
            network,
            tokens,
            neighbours,
            seed=seed,
            checkpoint=saved,
            **{name: chosen[name] for name in _OF_TRAINING},
        )
    del neighbours
    with stages.timed("answers"):
        head, probabilities = choose_and_answer(network, tokens, *judged, content, chosen, room)
    return Fitted(network, head, probabilities, losses, number, stages)


def _checkpoint(
    path: Path | None, chosen: dict[str, Any], seed: int, digest: str, number: dict | None
) -> Checkpoint:
    about = {"objective": chosen["objective"]}  # first, as others follow from it
    about |= {name: value for name, value in chosen.items() if name not in _NOT_ABOUT}
    about |= {"seed": seed, "features": digest} | ({} if number is None else {"number": number})
    return Checkpoint(path, about, any_seed=chosen["random_state"] is None)


def _asked(n: int, n_clusters: Any) -> Number:
    """The number of clusters that is asked for, of n images."""
    asked = checked_number(n_clusters)
    least = least_images(asked)
    if n >= least:
        return asked
    if isinstance(asked, int):
        raise SourceError(
            f"n_samples={n} should be >= n_clusters={asked}; lower n_clusters= or add images."
        )
    raise SourceError(
        f"n_samples={n} should be >= {least} to find n_clusters={asked!r}; give the number of "
        "clusters, or add images."
    )


def build_network(chosen: dict[str, Any], n_features: int, n_tokens: int, seed: int) -> Network:
    """An untrained network by the estimator's parameters, each with a value."""
    with DrawnFrom(torch.Generator().manual_seed(seed)):
        network = Network(
            n_features,
            n_tokens,
            chosen["n_clusters"],
            chosen["n_cluster_heads"],
            chosen["dim"],
            n_blocks=chosen["n_blocks"],
            shared_depth=chosen["shared_depth"],
            fused_depth=chosen["fused_depth"],
            n_heads=chosen["n_attention_heads"],
            fusion=chosen["fusion"],
            gate=chosen["gate"],
        )
    return network.float()  # whatever the caller's default type


def check_memory(model: Any, n_tokens: int = 1) -> Room:
    """The room that an estimator's ``memory`` gives, refused where it does not hold a batch.

    Raises
    ------
    SourceError
        It is no size, or too small.
    """
    return _room(model.get_params(), checked_number(model.n_clusters), n_tokens)


def _room(parameters: dict[str, Any], asked: Number, n_tokens: int) -> Room:
    most = asked if isinstance(asked, int) else asked[1] if isinstance(asked, tuple) else 2
    return check_room(resolve(parameters | {"n_clusters": most}, 1), n_tokens)


def _projected(
    network: Network, features: np.ndarray, rows: np.ndarray, room: Room
) -> tuple[Rows, Rows]:
    """Tokens (m, v, t, d) of some images, and their embeddings (m, d)."""
    m, d, device = len(rows), network.width, network.device
    tokens = make_room((m, *features.shape[1:3], d), TOKENS, room, device)
    embeddings = make_room((m, d), EMBEDDINGS, room, device)
    for start in range(0, m, PART):
        part = slice(start, min(start + PART, m))
        projected = network.project(features, rows[part])  # (b, v, t, d)
        tokens[part], embeddings[part] = projected, mean_view(projected)
    return tokens, embeddings


def _neighbours(embeddings: Rows, chosen: dict[str, Any], room: Room) -> Tensor:
    """(m, at most n_neighbors) rows, or of each image itself where nobody asks for others."""
    n = len(embeddings)
    # Half of what a cluster holds on average: in small sets more would be of other clusters.
    m = min(chosen["n_neighbors"], n - 1, max(1, n // (2 * chosen["n_clusters"])))
    asked = chosen["objective"] == "disjoint" or chosen["init"] == "k-means++"
    # Without neighbours an image is its own: its views are its only positives.
    if m and asked:
        return nearest_neighbours(embeddings, m, int(INDEX * room.memory))
    return torch.arange(n, device=embeddings.device)[:, None]


def _start(network: Network, embeddings: Rows, neighbours: Tensor, seed: int, room: Room) -> None:
    """Start the heads, by a sample of many images: of it neighbours are sought again."""
    k, d, h = network.n_clusters, network.width, network.n_cluster_heads
    most = kmeans_rows(k, d, KMEANS_RUNS * h, _KMEANS_ROWS, room)
    every = -(-len(embeddings) // most)
    some = embeddings[::every].to(network.device).float()
    if every > 1 and neighbours.shape[1] > 1:
        neighbours = nearest_neighbours(some, min(neighbours.shape[1], len(some) - 1))
    elif every > 1:
        neighbours = torch.arange(len(some), device=some.device)[:, None]
    network.start_heads(some, neighbours.to(some.device), seed)
