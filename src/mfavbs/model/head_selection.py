"""Which of the cluster heads answers, chosen without a label.

In: probabilities (h, n, k) of every head, embeddings (n, d). Out: the number of one head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.model.losses import balance_loss

_ELSEWHERE = 0.25  # weight of the images that the ridge regression puts into another cluster
_LEAST = 1e-9  # a variance below it is none


def choose_head(probabilities: Tensor, embeddings: Tensor, balance_weight: float) -> int:
    """The head that answers, without a label: predicted best by a linear rule, and balanced.

    The two keep each other in check, as the cluster and the balance loss do in training: a linear
    rule alone would have two alike groups merged, balance alone a cut where there is none. The
    training loss hardly tells two splits apart.

    Parameters
    ----------
    probabilities
        (h, n, k).
    embeddings
        As in :func:`leave_one_out_ridge_error`.
    balance_weight
        Of the balance loss beside the ridge error.

    Returns
    -------
    int
        In [0, h); of one head, that one.
    """
    if len(probabilities) == 1:
        return 0
    return int(criterion(probabilities, embeddings, balance_weight).argmin())


def criterion(probabilities: Tensor, embeddings: Tensor, balance_weight: float) -> Tensor:
    """Ridge error plus weighted balance loss of every head, (h,); less is better.

    As in :func:`choose_head`, which takes the least of them.
    """
    balance = torch.stack([balance_loss(p) for p in probabilities])
    error = leave_one_out_ridge_error(probabilities, embeddings)
    return error + balance_weight * balance.to(error.device)


def leave_one_out_ridge_error(probabilities: Tensor, embeddings: Tensor) -> Tensor:
    """Leave-one-out error of a ridge regression onto each head's clusters.

    A ridge regression from the embeddings onto every cluster's indicator, and of every image what
    it says when fitted on all the others, which has a closed form (the PRESS statistic, Allen,
    Technometrics 1974): the share of a cluster's variance that is left so, in the mean over the
    clusters, and a quarter of the share of images that it puts elsewhere. The ridge is the mean
    variance of the embeddings' channels.

    Parameters
    ----------
    probabilities
        (h, n, k).
    embeddings
        (n, d), from :func:`mfavbs.model.mean_view`.

    Returns
    -------
    Tensor
        (h,), less is better; 1 and more where nothing is predicted.
    """
    n, k = probabilities.shape[1:]
    if embeddings.device.type == "mps":  # it has no float64
        probabilities, embeddings = probabilities.cpu(), embeddings.cpu()
    x = embeddings.double() - embeddings.double().mean(0)  # (n, d)
    gram = x.T @ x
    ridge = gram.diagonal().mean().clamp_min(_LEAST)
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=x.dtype, device=x.device))
    leverage = ((x @ inverse) * x).sum(1) + 1 / n  # (n,): of the image's own label on its own
    found = []
    for labels in probabilities.argmax(-1):
        y = F.one_hot(labels, k).double()  # (n, k)
        centred = y - y.mean(0)
        left = centred - x @ (inverse @ (x.T @ centred))
        left /= (1 - leverage).clamp_min(_LEAST)[:, None]
        total = centred.square().sum(0)
        share = left.square().sum(0) / total.clamp_min(_LEAST)
        share = torch.where(total > _LEAST, share, 1)  # an empty cluster is not predicted
        elsewhere = ((y - left).argmax(-1) != labels).double().mean()
        found.append(share.mean() + _ELSEWHERE * elsewhere)
    return torch.stack(found).float()
