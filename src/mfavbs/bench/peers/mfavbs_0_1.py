"""mfavbs 0.1, as it was: the default estimator of that release, kept to be compared with.

In: features (n, v, t, d); view 0 is the clean one, token 0 the pooled feature.
Out: labels (n,), int.

Frozen: nothing here follows what becomes of the estimator. Up to 20,000 images the labels are
those of 0.1 on the CPU, bit for bit; of more all are compared with all, where 0.1 searched an
index. The blocks and two losses are the package's own, the rest is a copy without the switches.
"""

import itertools
import math
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.utils import check_random_state
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from mfavbs.devices import has_bfloat16
from mfavbs.model import MFAVBs, balance_loss, cluster_loss

_DIM = 128
_HEADS = 8
_NEIGHBOURS = 10
_VOTERS = 6  # whose answers are averaged with an image's own, itself among them
_BALANCE = 0.3
_TEMPERATURE = 0.1
_RATE, _HEADS_RATE = 1e-3, 5e-3
_CONTRASTED = 256  # clusters contrasted in a step
_SIMILARITIES = 2**27  # compared at once


class _Net(NamedTuple):
    blocks: MFAVBs
    prototypes: nn.Parameter  # (h, k, d)


def mfavbs_0_1(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """MFAVBsClustering of mfavbs 0.1 with its default parameters.

    Channel fusion of two views, contrasted with two other views of the image or of a neighbour; 8
    heads from 8 k-means; that head answers which a linear rule predicts best, averaged with the
    nearest images of the learned space.

    Parameters
    ----------
    features
        (n, v, t, d).
    k
        Clusters.
    seed
        As ``random_state``.

    Returns
    -------
    ndarray
        (n,) labels.
    """
    rows, content = _distinct(features)
    if len(rows) < k:
        rows = content = np.arange(len(features))
    seed = int(check_random_state(seed).randint(2**31 - 1))
    net = _network(k, seed)
    mean, components = _projection(features, rows)
    parts = [(_unit(features[part]) - mean) @ components for part in _in_parts(rows, 4096)]
    tokens = torch.cat(parts)  # (m, v, t, 128)
    embeddings = F.normalize(tokens[:, :, 0].mean(1), dim=-1)  # (m, 128)
    n = len(rows)
    m = min(_NEIGHBOURS, n - 1, max(3, n // (2 * k)))
    neighbours = _others(embeddings, m) if m else torch.arange(n)[:, None]
    _start(net.prototypes, embeddings, neighbours, seed)
    _train(net, tokens, neighbours, seed)
    return _answer(net, tokens, embeddings).numpy()[content]


def _in_parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """``rows`` in parts of ``size``, the last one smaller."""
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _distinct(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First row of each content, and which content a row has."""
    contents: dict[bytes, int] = {}
    content = [
        contents.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), len(contents))
        for row in features
    ]
    return np.unique(content, return_index=True)[1], np.array(content)


def _network(k: int, seed: int) -> _Net:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        blocks = MFAVBs(_DIM, gate=0.05)
        for module in blocks.modules():
            if isinstance(module, Attention):  # in 0.1 it asked where to look, of one place
                module.__class__ = Attention
        for _ in range(2):  # an instance head, which was drawn and never asked
            nn.Linear(_DIM, _DIM)
        return _Net(blocks, nn.Parameter(torch.randn(_HEADS, k, _DIM)))


def _projection(features: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Discriminant analysis with each image a class and its views the samples."""
    n, v, t, f = (len(rows), *features.shape[1:])
    parts = np.array_split(rows, -(-n // 2048))
    mean = torch.zeros(t, f)
    for part in parts:
        mean += _unit(features[part, 0]).sum(0) / n
    clean = [_unit(features[part, 0, 0]) - mean[0] for part in parts]
    narrow = torch.eye(f)
    if f > 2048:
        pca = PCA(min(2048, n), svd_solver="randomized", random_state=0)
        pca.fit(torch.cat(clean).numpy())
        narrow = torch.from_numpy(pca.components_.T.copy()).float()
    e = narrow.shape[1]
    within, between, centre = torch.zeros(e, e), torch.zeros(e, e), torch.zeros(e)
    for part in parts:
        x = (_unit(features[part, :, 0]) - mean[0]) @ narrow  # (b, v, e)
        m = x.mean(1)
        rest = (x - m[:, None]).flatten(0, 1)
        within += rest.T @ rest / (n * max(1, v - 1))
        between += m.T @ m / n
        centre += m.sum(0) / n
    between -= torch.outer(centre, centre) + within / v
    components = narrow @ _discriminant(within, between)
    length = torch.cat([part @ components for part in clean]).norm(dim=-1).mean().clamp_min(1e-12)
    components = F.pad(components * _DIM**0.5 / length, (0, _DIM - components.shape[1]))
    largest = components.gather(0, components.abs().argmax(0)[None])
    return mean, components * torch.where(largest < 0, -1, 1)


def _discriminant(within: Tensor, between: Tensor) -> Tensor:
    f = len(within)
    noise = within.trace() / f
    if noise <= 1e-6 * between.trace().clamp_min(0) / f:  # one view, or views all alike
        variance, axes = torch.linalg.eigh(between)
        variance, axes = variance.flip(0)[:_DIM], axes.flip(1)[:, :_DIM]
        return axes * (variance > 1e-6 * variance[0])
    spread, axes = torch.linalg.eigh(within + noise * torch.eye(f))
    whiten = axes * spread.rsqrt()
    signal, axes = torch.linalg.eigh(whiten.T @ between @ whiten)
    signal, axes = signal.flip(0)[:_DIM].clamp_min(0), axes.flip(1)[:, :_DIM]
    return whiten @ axes * (signal / (signal + 1.0))


def _unit(features: np.ndarray) -> Tensor:
    return F.normalize(torch.from_numpy(np.array(features, dtype=np.float32)), dim=-1)


def _nearest(queries: Tensor, rows: Tensor, m: int) -> Tensor:
    parts = queries.split(max(1, _SIMILARITIES // len(rows)))
    return torch.cat([(part @ rows.T).topk(m, dim=1).indices for part in parts])


def _others(embeddings: Tensor, m: int) -> Tensor:
    found = _nearest(embeddings, embeddings, m + 1)
    others = found != torch.arange(len(found))[:, None]
    others[others.all(1), -1] = False
    return found[others].view(len(found), m)


@torch.no_grad()
def _start(heads: Tensor, embeddings: Tensor, neighbours: Tensor, seed: int) -> None:
    """Each head from another k-means of embeddings averaged three times with their neighbours."""
    smooth = embeddings
    for _ in range(3):
        total = sum((smooth[column] for column in neighbours.T), start=smooth)
        smooth = F.normalize(total, dim=-1)
    partitions = _partitions(smooth.numpy(), heads.shape[1], seed)
    for prototypes, labels in zip(heads, itertools.cycle(partitions)):
        centroids = torch.zeros_like(prototypes)
        centroids.index_add_(0, torch.from_numpy(labels).long(), embeddings)
        filled = centroids.norm(dim=-1) > 0
        prototypes[filled] = F.normalize(centroids[filled], dim=-1)


def _partitions(points: np.ndarray, k: int, seed: int) -> list[np.ndarray]:
    k = min(k, len({row.tobytes() for row in points.round(5)}))
    seeds = [(seed + i) % 2**32 for i in range(3 * _HEADS)]
    runs = [KMeans(k, n_init=1, random_state=i).fit(points) for i in seeds]
    found: list[np.ndarray] = []
    for run in sorted(runs, key=lambda run: run.inertia_):
        if len(found) < _HEADS and all(
            adjusted_rand_score(run.labels_, other) < 0.95 for other in found
        ):
            found.append(run.labels_)
    return found


def _train(net: _Net, tokens: Tensor, neighbours: Tensor, seed: int) -> None:
    n, k = len(tokens), net.prototypes.shape[1]
    n_batches = math.ceil(n / max(256, math.ceil(k / 2)))
    epochs = max(4, math.ceil(300 / n_batches))
    groups = [{"params": list(net.blocks.parameters())}, {"params": [net.prototypes]}]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [_RATE, _HEADS_RATE], total_steps=max(epochs * n_batches, 11), pct_start=0.1
    )
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        for rows in torch.randperm(n, generator=generator).tensor_split(n_batches):
            pairs = _pairs(rows, neighbours, tokens.shape[1], generator)
            loss = _loss(net, tokens, pairs, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _pairs(
    rows: Tensor, neighbours: Tensor, n_views: int, generator: torch.Generator
) -> list[Tensor]:
    """Image, view and other view (2b,) of two pairs a row that share no view, pair after pair."""
    order = torch.rand(len(rows), neighbours.shape[1], generator=generator).argsort(dim=1)
    one, two = neighbours[rows[:, None], order[:, [0, -1]]].unbind(1)
    near = torch.where(torch.rand(rows.shape, generator=generator) < 0.5, rows, one)
    if n_views >= 4:
        two = torch.where(torch.rand(rows.shape, generator=generator) < 0.5, near, two)
    first = second = torch.randperm(n_views, generator=generator)
    if n_views > 1 and (near == two).any():
        first, second = first[: n_views // 2], first[n_views // 2 :]
    pairs = []
    for images, views in ((near, first), (two, second)):
        order = torch.rand(len(images), len(views), generator=generator).argsort(dim=1)
        pairs.append((images, views[order[:, 0]], views[order[:, -1]]))
    return [torch.cat(parts) for parts in zip(*pairs, strict=True)]


def _loss(net: _Net, tokens: Tensor, pairs: list[Tensor], generator: torch.Generator) -> Tensor:
    image, view_a, view_b = pairs
    low = has_bfloat16(tokens.device)
    with torch.autocast("cpu", torch.bfloat16, enabled=low, cache_enabled=False):
        halves = net.blocks(tokens[image, view_a], tokens[image, view_b])
        answers = [_heads(net, half[:, 0]) for half in halves]  # (h, 2b, k)
    balance = (balance_loss(answers[0]) + balance_loss(answers[1])) / 2
    positives = [answer.chunk(2, dim=1) for answer in answers]
    k = net.prototypes.shape[1]
    if k > _CONTRASTED:
        some = torch.randperm(k, generator=generator)[:_CONTRASTED]
        positives = [(p[..., some], q[..., some]) for p, q in positives]
    cluster = torch.stack([cluster_loss(p, q) for p, q in positives]).mean(0)
    return (cluster + _BALANCE * balance).mean()


def _heads(net: _Net, x: Tensor) -> Tensor:
    """Probabilities (h, b, k) of representations (b, 128)."""
    # 0.1 sliced the heads; autograd adds the gradients in another order without it.
    prototypes = F.normalize(net.prototypes[:], dim=-1)
    return (F.normalize(x, dim=-1) @ prototypes.mT / _TEMPERATURE).float().softmax(-1)


@torch.inference_mode()
def _answer(net: _Net, tokens: Tensor, embeddings: Tensor) -> Tensor:
    found, spaces = [], []
    for part in tokens.split(1024):
        a, _ = net.blocks(part.flatten(0, 1), part.roll(-1, dims=1).flatten(0, 1))
        pooled, shape = a[:, 0], part.shape[:2]  # (b v, 128)
        found.append(_heads(net, pooled).unflatten(1, shape).mean(2))
        spaces.append(F.normalize(pooled.float(), dim=-1).unflatten(0, shape).mean(1))
    p = torch.cat(found, dim=1)  # (h, m, k)
    learned = F.normalize(torch.cat(spaces), dim=-1)  # (m, 128)
    m, k = p.shape[1:]
    voters = max(1, min(_VOTERS, m // (2 * k)))
    answers, kept = p.half().float(), learned.half().float()  # 0.1 kept them so
    averaged = []
    for own, r in zip(p.split(1024, 1), learned.split(1024), strict=True):
        total = own + answers[:, _nearest(r, kept, voters)].sum(2)  # (h, b, k)
        averaged.append(total / total.sum(-1, keepdim=True))
    p = torch.cat(averaged, dim=1)
    balance = torch.stack([balance_loss(head) for head in p])
    head = int((_ridge_error(p, embeddings) + _BALANCE * balance).argmin())
    return p[head].argmax(-1)


def _ridge_error(probabilities: Tensor, embeddings: Tensor) -> Tensor:
    """Leave-one-out error (h,) of a ridge regression from the embeddings onto the clusters."""
    n, k = probabilities.shape[1:]
    x = embeddings.double() - embeddings.double().mean(0)
    gram = x.T @ x
    ridge = gram.diagonal().mean().clamp_min(1e-9)
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=x.dtype))
    leverage = ((x @ inverse) * x).sum(1) + 1 / n
    found = []
    for labels in probabilities.argmax(-1):
        y = F.one_hot(labels, k).double()
        centred = y - y.mean(0)
        left = centred - x @ (inverse @ (x.T @ centred))
        left /= (1 - leverage).clamp_min(1e-9)[:, None]
        total = centred.square().sum(0)
        share = left.square().sum(0) / total.clamp_min(1e-9)
        share = torch.where(total > 1e-9, share, 1)
        elsewhere = ((y - left).argmax(-1) != labels).double().mean()
        found.append(share.mean() + 0.25 * elsewhere)
    return torch.stack(found).float()
