"""How a fitted model sees images, for the questions that a person asks of its clusters.

In: a fitted model, features of images. Out: embeddings (n, d), the cluster by every head (h, n).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mfavbs.memory import checked_memory, let_go
from mfavbs.model.assignment import assign
from mfavbs.model.checking import check_features
from mfavbs.model.isolation import own_settings
from mfavbs.model.network import mean_view
from mfavbs.model.projection import unit
from mfavbs.model.room import TOKENS, Room, make_array

_CHUNK = 4096  # images at once: their tokens are held no longer


class Seen(NamedTuple):
    """What a model sees of n images.

    Attributes
    ----------
    embeddings
        (n, d) float32 of unit length: the mean of an image's projected views.
    heads
        (h, n) cluster by each cluster head alone, numbered by that head.
    """

    embeddings: np.ndarray
    heads: np.ndarray


@own_settings()
@torch.inference_mode()
def look(model: Any, X: Any, room: Room | None = None) -> Seen:
    """See images as a fitted :class:`MFAVBsClustering` does; memory grows with h n alone.

    Embeddings that are too many for the room, by default the model's ``memory``, lie on the disk.
    """
    features = check_features(model, X, reset=False)
    network = model.network_
    room = room or Room(checked_memory(model.memory))
    embeddings = make_array((len(features), network.width), TOKENS, room)
    heads = np.empty((network.n_cluster_heads, len(features)), np.int32)
    for start in range(0, len(features), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(features)))
        tokens = network.project(features, np.arange(part.start, part.stop))  # (b, v, t, d)
        embeddings[part] = mean_view(tokens).cpu().numpy()
        heads[:, part] = assign(network, tokens)[0].argmax(-1).cpu().numpy()
        let_go(embeddings)
    return Seen(embeddings, heads)


@own_settings()
@torch.inference_mode()
def look_at_tokens(model: Any, X: Any, rows: np.ndarray) -> np.ndarray:
    """Projected tokens (m, v, t, d) float32 of the images in ``rows``."""
    features = check_features(model, X[rows], reset=False)
    return model.network_.project(features).cpu().numpy()


@own_settings()
@torch.inference_mode()
def mean_features(model: Any, X: Any, rows: np.ndarray | None = None) -> np.ndarray:
    """The mean of an image's views as the encoder has them, (n, f) float32 of unit length."""
    features = check_features(model, X if rows is None else X[rows], reset=False)
    frame = model.network_.frame
    width = features.shape[3] + (frame is not None)
    found = make_array((len(features), width), TOKENS, Room(checked_memory(model.memory)))
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = F.normalize(unit(features[part, :, 0], frame=frame).mean(1), dim=-1).numpy()
        let_go(features)
        let_go(found)
    return found
