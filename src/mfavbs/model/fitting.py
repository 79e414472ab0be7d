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
from mfavbs.model.asking import Number, checked_number, least_images
from mfavbs.model.assignment import assign, average_with_neighbours
from mfavbs.model.checkpoint import Checkpoint
from mfavbs.model.copies import find_copies
from mfavbs.model.defaults import resolve
from mfavbs.model.head_selection import choose_head
from mfavbs.model.isolation import DrawnFrom
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import Network, mean_view
from mfavbs.model.number import find_number
from mfavbs.model.training import train

BANK_ROWS = 100_000  # images kept to answer others with: bounds the size of the model
_OF_TRAINING = (
    "objective",
    "epochs",
    "batch_size",
    "learning_rate",
    "instance_weight",
    "balance_weight",
    "verbose",
)
_NOT_ABOUT = ("device", "verbose", "random_state")  # what an interrupted run need not agree on


class Fitted(NamedTuple):
    """A trained network, the number of its head that answers, (n, k) probabilities, losses.

    And how the number of clusters was found, None where it was given.
    """

    network: Network
    head: int
    probabilities: np.ndarray
    losses: list[dict]
    number: dict[str, Any] | None


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
    asked = _asked(len(features), parameters["n_clusters"])
    rows, content, digest = find_copies(features)
    seed = int(check_random_state(parameters["random_state"]).randint(2**31 - 1))
    number = None
    if isinstance(asked, int):
        k = asked
    else:  # an interrupted run goes on with what it found
        number = Checkpoint.look_up(checkpoint, "number")
        number = number or find_number(features, rows, asked, parameters["dim"], seed)
        k = number["best"]
    parameters = parameters | {"n_clusters": k}
    if len(rows) < k:
        rows = content = np.arange(len(features))
    chosen = resolve(parameters, len(rows))
    device = pick_device(chosen["device"])
    about = {"objective": chosen["objective"]}  # first, as others follow from it
    about |= {name: value for name, value in chosen.items() if name not in _NOT_ABOUT}
    about["seed"] = seed
    about["features"] = digest
    if number is not None:
        about["number"] = number
    saved = Checkpoint(checkpoint, about, any_seed=chosen["random_state"] is None)
    seed = saved.about["seed"]

    network = build_network(chosen, features.shape[3], features.shape[2], seed).to(device)
    if saved.state is None:
        network.fit_projection(features, torch.Generator().manual_seed(seed), rows)
    else:  # fitted again it may differ by round-off, on another number of threads say
        saved.restore(network=network)
    tokens = network.project(features, rows)  # (m, v, t, width)
    embeddings = mean_view(tokens).to(device)  # (m, width)
    if saved.state is None:
        neighbours = _neighbours(embeddings, chosen)
        if chosen["init"] == "k-means++":
            network.start_heads(embeddings, neighbours, seed)
    else:
        neighbours = saved.state["neighbours"]
    losses = train(
        network,
        tokens,
        neighbours,
        seed=seed,
        checkpoint=saved,
        **{name: chosen[name] for name in _OF_TRAINING},
    )
    head, probabilities = _answer(network, tokens, embeddings, chosen, seed)
    return Fitted(network, head, probabilities.cpu().numpy()[content], losses, number)


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


def _neighbours(embeddings: Tensor, chosen: dict[str, Any]) -> Tensor:
    """(m, at most n_neighbors) rows, or of each image itself where nobody asks for others."""
    n = len(embeddings)
    # Half of what a cluster holds on average: in small sets more would be of other clusters.
    m = min(chosen["n_neighbors"], n - 1, max(1, n // (2 * chosen["n_clusters"])))
    asked = chosen["objective"] == "disjoint" or chosen["init"] == "k-means++"
    # Without neighbours an image is its own: its views are its only positives.
    if m and asked:
        return nearest_neighbours(embeddings, m)
    return torch.arange(n, device=embeddings.device)[:, None]


def _answer(
    network: Network, tokens: Tensor, embeddings: Tensor, chosen: dict[str, Any], seed: int
) -> tuple[int, Tensor]:
    """Choose the head that answers; its probabilities (m, k)."""
    balance_weight = chosen["balance_weight"]
    if chosen["objective"] == "paper" or not chosen["n_neighbors"]:  # no neighbour is asked
        probabilities, _ = assign(network, tokens)  # (h, m, k)
        head = choose_head(probabilities, embeddings, balance_weight)
        return head, probabilities[head].clone()  # a view would keep every head's in memory
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(tokens), generator=generator)[:BANK_ROWS].sort().values
    kept = tokens if len(rows) == len(tokens) else tokens[rows.to(tokens.device)]
    probabilities, representations = assign(network, kept)  # (h, m, k), (m, d)
    # As the model keeps them, so that `predict` gives the same.
    answers, bank = probabilities.half(), representations.half()
    network.keep(answers[0], bank)
    probabilities = average_with_neighbours(probabilities, representations, answers, network.bank())
    head = choose_head(probabilities, embeddings[rows.to(embeddings.device)], balance_weight)
    network.bank_probabilities.copy_(answers[head])
    if kept is tokens:
        return head, probabilities[head].clone()
    return head, answer(network, tokens, head)


def answer(network: Network, tokens: Tensor, head: int) -> Tensor:
    """Probabilities (n, k) of a trained network's head, with those of the images it keeps."""
    probabilities, representations = assign(network, tokens, slice(head, head + 1))  # (1, n, k)
    if network.n_kept:
        answers = network.bank_probabilities[None]
        probabilities = average_with_neighbours(
            probabilities, representations, answers, network.bank()
        )
    return probabilities[0]
