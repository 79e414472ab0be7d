"""A fitted model with other clusters: joined or split ones, given from outside.

In: a fitted model, features of its images, clusters (n,). Out: a model that answers with these.
"""

from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from mfavbs.memory import checked_memory
from mfavbs.model.answers import BANK_ROWS, answered, fill
from mfavbs.model.assignment import assign, decide
from mfavbs.model.checking import check_features
from mfavbs.model.defaults import resolve
from mfavbs.model.fitting import build_network
from mfavbs.model.isolation import own_settings
from mfavbs.model.room import ANSWERS, EMBEDDINGS, Room, make_array, make_room

_Model = TypeVar("_Model")


@own_settings()
@torch.no_grad()
def with_clusters(model: _Model, X: Any, labels: np.ndarray, k: int) -> _Model:
    """Make a model of a fitted one that has other clusters; nothing is trained.

    Its head has the mean representation of every cluster. The images that it keeps, whose answers
    are averaged with an image's own, answer with their cluster: so nearly all of ``X`` are put
    where they were, and the rest where their neighbours are.

    Parameters
    ----------
    model
        A fitted :class:`MFAVBsClustering`, which is not changed.
    X
        (n, d) features, or (n, v, d) or (n, v, t, d), of images that ``labels`` are of.
    labels
        (n,) clusters, in 0..k-1, none of them empty.
    k
        Clusters.
    """
    fitted: Any = model
    features = check_features(fitted, X, reset=False)
    before = fitted.network_
    changed = {"n_clusters": k, "n_cluster_heads": 1, "batch_size": "auto"}
    parameters = fitted._fitted_parameters | changed
    chosen = resolve(parameters, len(features))
    network = build_network(chosen, before.n_features, before.n_tokens, 0)
    state = {
        name: value
        for name, value in before.state_dict().items()
        if not name.startswith(("cluster_heads.prototypes", "bank_"))
    }
    network.load_state_dict(state, strict=False)
    network.to(before.device)
    room = Room(checked_memory(fitted.memory))
    representations = make_room((len(features), network.width), EMBEDDINGS, room, network.device)
    member = torch.from_numpy(np.array(labels)).to(network.device)
    total = torch.zeros(k, network.width, dtype=torch.float32, device=network.device)
    start = 0
    for part in network.parts(features):
        here = slice(start, start + len(part))
        _, found = assign(network, part, slice(0, 0))  # (b, d)
        representations[here] = found
        total.index_add_(0, member[here], found)
        start = here.stop
    network.cluster_heads.prototypes.copy_(F.normalize(total, dim=-1)[None])
    if before.n_kept:
        rows = torch.randperm(len(member), generator=torch.Generator().manual_seed(0))
        rows = rows[:BANK_ROWS].sort().values
        kept = representations[rows.to(representations.device)].to(network.device)
        network.keep(F.one_hot(member[rows.to(member.device)], k).half(), kept.half())
    made: Any = type(fitted)(**parameters)
    made.network_, made.head_, made.n_clusters_ = network, 0, k
    made._fitted_parameters, made.number_ = parameters, None
    made.n_features_in_ = fitted.n_features_in_
    if hasattr(fitted, "feature_names_in_"):
        made.feature_names_in_ = fitted.feature_names_in_
    made.loss_history_ = fitted.loss_history_
    made.probabilities_ = make_array((len(features), k), ANSWERS, room)
    fill(made.probabilities_, answered(network, network.parts(features), 0))
    made.labels_, made.confidences_ = decide(made.probabilities_)
    return made
