"""The fixed projection of the encoder's features, fitted once, without labels.

In: features of images, (n, v, t, f).
Out: the mean of every token (t, f), and components (f, d) to project onto.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor

_ROWS = 20_000  # images that it is fitted on: bounds its time
_CHUNK = 2048  # images whose scatter is summed at once
# c: noise that an image's views share, over that of one view; measured against 1 / v in
# docs/experiments.md, "Signal and noise of the projection".
_COMMON = 1.0
_NARROW = 8  # features; fewer are no embedding
_WIDEST = 2048  # beyond it features are first reduced to as many principal components


def fit_projection(
    features: np.ndarray,
    dim: int,
    generator: torch.Generator,
    rows: np.ndarray | None = None,
    device: torch.device | str = "cpu",
    frame: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Directions in which images differ, weighted by how little their own views do.

    Discriminant analysis with every image a class of its own and its views the samples: whitened
    by the scatter within images, the directions of largest scatter between them, each scaled by
    its share of signal, s / (s + c), where s is the signal of one view over its noise: the
    posterior mean of probabilistic linear discriminant analysis (Ioffe, ECCV 2006). Were the noise
    of v views independent, c = 1 / v would be right for their mean; what they have in common does
    not average out, and c is 1. To the scatter within images as much again is added evenly over
    all directions: augmentations do not show all that is noise, and with few images not even what
    they do. With one view there is nothing to be learned from views, and the components are the
    principal ones.

    Parameters
    ----------
    features
        (n, v, t, f). Token 0 is the one it is fitted on.
    dim
        d.
    generator
        Draws the images that it is fitted on where there are more than 20,000.
    rows
        (m,) images to look at; all by default.
    device
        Where the sums are computed.
    frame
        Of features that are no embedding, from :func:`fit_frame`.

    Returns
    -------
    tuple of Tensor
        Mean (t, f) of the clean views' tokens of unit length; components (f, d), such that
        the projected channels are of about unit size. Where f or n is less than d the last of
        them are zero.
    """
    rows = np.arange(len(features)) if rows is None else rows
    rows = rows[torch.randperm(len(rows), generator=generator)[:_ROWS].sort().values.numpy()]
    n, v, t, f = (len(rows), *features.shape[1:])
    f += frame is not None
    mean = torch.zeros(t, f, device=device)
    for part in _chunks(rows):
        mean += unit(features[part, 0], device, frame).sum(0) / n
    narrow = _principal(features, rows, mean[0].cpu()).to(device) if f > _WIDEST else None  # (f, e)
    e = f if narrow is None else narrow.shape[1]
    within, between = torch.zeros(e, e, device=device), torch.zeros(e, e, device=device)
    centre = torch.zeros(e, device=device)
    for part in _chunks(rows):
        x = unit(features[part, :, 0], device, frame) - mean[0]  # (b, v, f)
        x = x if narrow is None else x @ narrow  # (b, v, e)
        m = x.mean(1)  # (b, e)
        rest = (x - m[:, None]).flatten(0, 1)  # (b v, e)
        within += rest.T @ rest / (n * max(1, v - 1))
        between += m.T @ m / n
        centre += m.sum(0) / n
    between -= torch.outer(centre, centre) + within / v
    components = _discriminant(within.cpu(), between.cpu(), dim).to(device)
    components = components if narrow is None else narrow @ components
    projected = [
        (unit(features[part, 0, 0], device, frame) - mean[0]) @ components for part in _chunks(rows)
    ]
    # Channels of about unit size, as a transformer's own normalisation would leave them.
    length = torch.cat(projected).norm(dim=-1).mean().clamp_min(1e-12)
    components = F.pad(components * dim**0.5 / length, (0, dim - components.shape[1]))
    # The sign of an eigenvector is left to round-off, which must not decide the start.
    largest = components.gather(0, components.abs().argmax(0)[None])
    return mean, components * torch.where(largest < 0, -1, 1)


def is_narrow(n_features: int) -> bool:
    """Whether so many features are too few for an embedding."""
    return n_features < _NARROW


def fit_frame(features: np.ndarray) -> Tensor:
    """Centre and mean distance from it, (f + 1,), of features too few for an embedding.

    An embedding says what it says by its direction alone. Fewer than 8 numbers are positions,
    counts or measurements, whose length counts: from their centre they get one more number, as
    long as they are in the mean, and so the length decides the direction.
    """
    clean = np.asarray(features[:, 0, 0], np.float64)
    centre = clean.mean(0)
    reach = np.linalg.norm(clean - centre, axis=1).mean()
    return torch.from_numpy(np.append(centre, reach)).float()


def unit(
    features: np.ndarray, device: torch.device | str = "cpu", frame: Tensor | None = None
) -> Tensor:
    """Features (..., f) in float32 and of unit length, there; with a frame, (..., f + 1)."""
    x = torch.from_numpy(np.array(features)).to(device).float()
    if frame is not None:
        frame = frame.to(device)
        x = torch.cat([x - frame[:-1], frame[-1].expand(*x.shape[:-1], 1)], dim=-1)
    # Squares of numbers near the ends of float32 would be infinite, or nothing.
    largest = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return F.normalize(x / largest, dim=-1)


def _discriminant(within: Tensor, between: Tensor, dim: int) -> Tensor:
    """(f, d) from the scatter of views within images and of images, both (f, f)."""
    f = len(within)
    noise = within.trace() / f
    if noise <= 1e-6 * between.trace().clamp_min(0) / f:  # one view, or views all alike
        variance, axes = torch.linalg.eigh(between)
        variance, axes = variance.flip(0)[:dim], axes.flip(1)[:, :dim]
        return axes * (variance > 1e-6 * variance[0])  # the rest is round-off
    spread, axes = torch.linalg.eigh(within + noise * torch.eye(f))
    whiten = axes * spread.rsqrt()  # (f, f)
    signal, axes = torch.linalg.eigh(whiten.T @ between @ whiten)
    signal, axes = signal.flip(0)[:dim].clamp_min(0), axes.flip(1)[:, :dim]
    return whiten @ axes * (signal / (signal + _COMMON))


def _principal(features: np.ndarray, rows: np.ndarray, mean: Tensor) -> Tensor:
    clean = torch.cat([unit(features[part, 0, 0]) - mean for part in _chunks(rows)])
    pca = PCA(min(_WIDEST, len(clean)), svd_solver="randomized", random_state=0).fit(clean.numpy())
    return torch.from_numpy(pca.components_.T.copy()).float()


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // _CHUNK))
