"""From a trained network to the head that answers and every image's probabilities.

In: a network, tokens (n, v, t, d) in memory or on the disk.
Out: the number of a head, probabilities (n, k).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mfavbs.memory import let_go
from mfavbs.model.assignment import assign, average_with_neighbours
from mfavbs.model.head_selection import choose_head
from mfavbs.model.network import Network
from mfavbs.model.room import ANSWERS, Room, Rows, make_array, rows_at_once

BANK_ROWS = 100_000  # images kept to answer others with: bounds the size of the model
PART = 4096  # images answered at once


def judged_rows(network: Network, embeddings: Rows, seed: int, room: Room) -> tuple[Tensor, Tensor]:
    """Rows of the images that the heads are judged by, and their embeddings (m, d).

    Where neighbours are asked, these are the images that the model keeps.

    Parameters
    ----------
    network
        Its sizes are looked at alone.
    embeddings
        (n, d) of all images.
    seed
        Of the choice, where there are more than 100,000, or more than fit.
    room
        The bound.
    """
    h, k, d = network.n_cluster_heads, network.n_clusters, network.width
    most = rows_at_once(6 * h * k + 32 * k + 24 * d, BANK_ROWS, room)
    rows = torch.arange(len(embeddings))
    if len(rows) > most:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(rows), generator=generator)[:most].sort().values
    return rows, embeddings[rows.to(embeddings.device)].to(network.device).float()


def _asks_neighbours(chosen: dict[str, Any]) -> bool:
    return chosen["objective"] == "disjoint" and bool(chosen["n_neighbors"])


def choose_and_answer(
    network: Network,
    tokens: Rows,
    rows: Tensor,
    embeddings: Tensor,
    content: np.ndarray,
    chosen: dict[str, Any],
    room: Room,
) -> tuple[int, np.ndarray]:
    """Choose the head that answers; its probabilities (n, k) of every image.

    Parameters
    ----------
    network
        Trained. Where neighbours are asked, it keeps the images that its heads are judged by.
    tokens
        (m, v, t, d) of each content.
    rows, embeddings
        From :func:`judged_rows`.
    content
        (n,) which content an image has.
    chosen
        The estimator's parameters, each with a value.
    room
        The bound.
    """
    kept = tokens if len(rows) == len(tokens) else tokens[rows.to(tokens.device)]
    probabilities, representations = assign(network, kept)  # (h, m, k), (m, d)
    if _asks_neighbours(chosen):
        # As the model keeps them, so that `predict` gives the same.
        answers = probabilities.half()
        network.keep(answers[0], representations.half())
        probabilities = average_with_neighbours(
            probabilities, representations, answers, network.bank()
        )
        head = choose_head(probabilities, embeddings, chosen["balance_weight"])
        network.bank_probabilities.copy_(answers[head])
    else:
        head = choose_head(probabilities, embeddings, chosen["balance_weight"])
    if kept is tokens:
        return head, probabilities[head].cpu().numpy()[content]
    del kept, probabilities, representations
    found = make_array((len(tokens), network.n_clusters), ANSWERS, room)
    fill(found, answered(network, tokens.split(PART), head))
    if len(content) == len(found):
        return head, found
    every = make_array((len(content), network.n_clusters), ANSWERS, room)
    fill(every, (found[content[at : at + PART]] for at in range(0, len(content), PART)))
    return head, every


def answered(network: Network, parts: Iterable[Tensor], head: int) -> Iterator[np.ndarray]:
    """Probabilities (b, k) of a head, with those of the images that the network keeps.

    Parameters
    ----------
    network
        Trained.
    parts
        Tokens (b, v, t, d) of some images each.
    head
        Number of the head.
    """
    for tokens in parts:
        probabilities, representations = assign(network, tokens, slice(head, head + 1))
        if network.n_kept:
            kept = network.bank_probabilities[None]
            probabilities = average_with_neighbours(
                probabilities, representations, kept, network.bank()
            )
        yield probabilities[0].cpu().numpy()


def fill(array: np.ndarray, parts: Iterable[np.ndarray]) -> None:
    """Write parts into an array, one after the other; a memory map is not held on to."""
    start = 0
    for part in parts:
        array[start : start + len(part)] = part
        start += len(part)
        let_go(array)
