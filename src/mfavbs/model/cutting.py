"""A fitted model with other clusters: joined or split ones, given from outside.

In: a fitted model, features of its images, clusters (n,). Out: a model that answers with these.
"""

from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from mfavbs.model.assignment import assign, decide
from mfavbs.model.checking import check_features
from mfavbs.model.defaults import resolve
from mfavbs.model.fitting import BANK_ROWS, answer, build_network
from mfavbs.model.isolation import own_settings

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
    tokens = network.project(features)  # (n, v, t, d)
    _, representations = assign(network, tokens, slice(0, 0))  # (n, d)
    member = torch.from_numpy(np.array(labels)).to(representations.device)
    total = torch.zeros(k, network.width, device=representations.device)
    total.index_add_(0, member, representations)
    network.cluster_heads.prototypes.copy_(F.normalize(total, dim=-1)[None])
    if before.n_kept:
        rows = torch.randperm(len(member), generator=torch.Generator().manual_seed(0))
        rows = rows[:BANK_ROWS].sort().values.to(member.device)
        network.keep(F.one_hot(member[rows], k).half(), representations[rows].half())
    made: Any = type(fitted)(**parameters)
    made.network_, made.head_, made.n_clusters_ = network, 0, k
    made._fitted_parameters, made.number_ = parameters, None
    made.n_features_in_ = fitted.n_features_in_
    if hasattr(fitted, "feature_names_in_"):
        made.feature_names_in_ = fitted.feature_names_in_
    made.loss_history_ = fitted.loss_history_
    made.probabilities_ = answer(network, tokens, 0).cpu().numpy()
    made.labels_, made.confidences_ = decide(made.probabilities_)
    return made
