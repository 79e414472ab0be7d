"""TURTLE (ICML 2024, arXiv 2406.07236): the labelling that a linear classifier learns best.

In: features (n, v, t, d); view 0 is the clean one, token 0 the pooled feature.
Out: labels (n,), int.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mfavbs.bench.peers.classical import mean_embedding

_BLOCK = 1024  # rows that meet the classifier while they are in the processor's cache


def turtle_loss(labels: Tensor, log_p: Tensor, gamma: float = 10.0) -> Tensor:
    """Cross-entropy of a classifier's predictions less γ times the mean label's entropy (eq. 12).

    Parameters
    ----------
    labels
        (n, k) soft labels.
    log_p
        (n, k) log-probabilities of the classifier that was trained on them.
    gamma
        γ.

    Returns
    -------
    Tensor
        Scalar, at the least -γ log k.
    """
    return -(labels * log_p).sum(-1).mean() - gamma * torch.special.entr(labels.mean(0)).sum()


def softmax_gradient(
    weight: Tensor, bias: Tensor, x: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient of a softmax regression's mean cross-entropy, in half of autograd's time.

    Parameters
    ----------
    weight, bias
        (k, d), (k,).
    x, labels
        (n, d), (n, k).

    Returns
    -------
    tuple of Tensor
        By the weight (k, d), by the bias (k,).
    """
    by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for rows, target in zip(x.split(_BLOCK), labels.split(_BLOCK), strict=True):
        error = (weight @ rows.T + bias[:, None]).softmax(0) - target.T  # (k, block)
        by_weight.addmm_(error, rows)
        by_bias += error.sum(1)
    return by_weight / len(x), by_bias / len(x)


def fit_classifier(x: Tensor, labels: Tensor, steps: int, learning_rate: float) -> nn.Linear:
    """The inner problem: a linear classifier from a random start, a few steps of Adam away."""
    classifier = nn.Linear(x.shape[1], labels.shape[1])
    weight, bias = classifier.weight, classifier.bias
    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate)
    for _ in range(steps):
        weight.grad, bias.grad = softmax_gradient(weight.detach(), bias.detach(), x, labels)
        optimizer.step()
    return classifier


def turtle(
    features: np.ndarray,
    k: int,
    seed: int,
    *,
    iterations: int = 6000,
    inner_steps: int = 10,
    batch_size: int = 10_000,
    learning_rate: float = 1e-3,
    gamma: float = 10.0,
) -> np.ndarray:
    """Search the labelling of least loss for a classifier that starts anew at every iteration.

    All settings are the defaults of the authors' code: a weight-normed linear task encoder, Adam
    in both problems, cold start, the classifier taken as constant in the outer gradient, γ = 10
    and no cross-validation. Adapted: one space, and its vectors, the means over the views, are
    scaled to channels of unit size, which CLIP's and DINOv2's own are near to.

    On one core, shared with others, the 6,000 iterations took 10 to 12 minutes
    for 3,925 images of 1,280 features; the time grows with the images up to the batch size.

    Parameters
    ----------
    features
        (n, v, t, d).
    k
        Clusters.
    seed
        Of the weights and batches.
    iterations, inner_steps
        Steps of the task encoder, and of the classifier in each.
    batch_size
        Images in an iteration, at the most.
    learning_rate
        Of both.
    gamma
        Weight of the entropy.

    Returns
    -------
    ndarray
        (n,) labels.
    """
    x = torch.from_numpy(mean_embedding(features)) * features.shape[-1] ** 0.5  # (n, d)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        encoder = weight_norm(nn.Linear(x.shape[1], k))
        optimizer = torch.optim.Adam(encoder.parameters(), lr=learning_rate)
        for _ in range(iterations):
            batch = x if len(x) <= batch_size else x[torch.randperm(len(x))[:batch_size]]
            labels = encoder(batch).softmax(-1)  # (b, k)
            classifier = fit_classifier(batch, labels.detach(), inner_steps, learning_rate)
            with torch.no_grad():
                log_p = F.log_softmax(classifier(batch), dim=-1)
            optimizer.zero_grad()
            turtle_loss(labels, log_p, gamma).backward()
            optimizer.step()
    with torch.no_grad():
        return encoder(x).argmax(-1).numpy()
