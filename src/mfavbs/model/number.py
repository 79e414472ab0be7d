"""How many clusters there are, told by curves over candidate numbers and without any training.

In: features of images, or embeddings (n, d) of unit length; ``"auto"``, or a range of numbers.
Out: for each candidate the evidence for it, the number that is chosen, and what was second.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.errors import SourceError
from mfavbs.model.asking import Number, least_images
from mfavbs.model.kmeans import kmeans
from mfavbs.model.neighbours import nearest_neighbours
from mfavbs.model.network import mean_view
from mfavbs.model.projection import fit_frame, fit_projection, is_narrow, unit

_SAMPLE = 2000  # images looked at; or
_PER_CLUSTER = 10  # so many for each of the largest candidate
_MOST = 200  # clusters, where no range is given
_LEAST_SIZE = 8  # images in a cluster, on average, likewise
_RATIO = 1.14  # of a candidate to the one before
_PARTITIONS = 8  # of each candidate, each by k-means on another half
_NEIGHBOURS = 10
_SMOOTHED_BY = 5  # neighbours that an embedding is averaged with for k-means
# One group, if the evidence is not so many times that of a normal distribution as wide. Of sets of
# images it is 2.0 and more, of normal distributions 1.1 at most, of single classes 1.0 to 2.5.
_GROUPED = 1.4
_CLEAR = 0.75  # silhouette that a cloud of few dimensions has not, however it is stretched
_MOST_OF_ONE = 20  # candidates up to which the normal distribution is looked at


class Curve(NamedTuple):
    """What speaks for each of c candidate numbers of clusters.

    Attributes
    ----------
    numbers
        (c,) ascending.
    evidence
        (c,) in [0, 1]: modularity x silhouette.
    modularity
        (c,) how much more often an image's neighbours are in its cluster than by chance.
    silhouette
        (c,) how much nearer an image is to its own cluster than to the next, by cosine.
    """

    numbers: np.ndarray
    evidence: np.ndarray
    modularity: np.ndarray
    silhouette: np.ndarray

    @property
    def best(self) -> int:
        """The number with most evidence; of equal ones the least."""
        return int(self.numbers[self.evidence.argmax()])

    @property
    def second(self) -> int | None:
        """The number with most evidence but the best, of those with more than their neighbours."""
        around = np.pad(self.evidence, 1, constant_values=-1)
        peaks = (self.evidence > around[:-2]) & (self.evidence >= around[2:])
        peaks[self.evidence.argmax()] = False
        if not peaks.any():
            return None
        return int(self.numbers[np.where(peaks, self.evidence, -1).argmax()])


def find_number(
    features: np.ndarray, rows: np.ndarray, asked: Number, dim: int, seed: int
) -> dict[str, Any]:
    """Find the number of clusters of features, from a sample of them.

    Parameters
    ----------
    features
        (n, v, t, f).
    rows
        (m,) images to look at, no two of them copies.
    asked
        ``"auto"`` or a range (low, high).
    dim, seed
        Of the projection, see :func:`mfavbs.model.fit_projection`.

    Returns
    -------
    dict
        As :func:`tell_number`.

    Raises
    ------
    SourceError
        There are too few images to tell, or there is one group only.
    """
    words = _words(asked)
    if len(rows) < least_images(asked):
        raise SourceError(
            f"{len(rows):,} different images are too few to find n_clusters={words}; expected "
            f"{least_images(asked)} at least. Give the number of clusters, or add images."
        )
    generator = torch.Generator().manual_seed(seed)
    size = _sample_size(_range(asked, len(rows))[1])
    rows = rows[torch.randperm(len(rows), generator=generator)[:size].sort().values.numpy()]
    some = np.asarray(features[rows])
    frame = fit_frame(some) if is_narrow(some.shape[-1]) else None
    mean, components = fit_projection(some, dim, generator, frame=frame)
    told = tell_number(mean_view((unit(some, frame=frame) - mean) @ components), asked, seed)
    if told["one"] and asked == "auto":
        raise SourceError(
            "The images are one group: clusters of them are hardly clearer than clusters of a "
            f"single cloud of points. The least unclear would be {told['best']}; to have them, "
            f"give n_clusters={told['best']}."
        )
    return told


def tell_number(embeddings: Tensor, asked: Number, seed: int) -> dict[str, Any]:
    """Tell how many clusters there are, in plain values.

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n >= 20; of many, a sample is looked at.
    asked
        ``"auto"``, a range, or a number, which is then weighed beside those of ``"auto"``.
    seed
        Of all that is drawn.

    Returns
    -------
    dict
        ``asked``; ``best`` and ``second``, which is None where the curve has one peak; ``one``,
        whether the images are one group rather; and the columns of :class:`Curve`.
    """
    low, high = _range(asked, len(embeddings))
    numbers = candidates(low, high)
    if isinstance(asked, int) and 2 <= asked <= len(embeddings) // 2:
        numbers = sorted({*numbers, asked})
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(embeddings), generator=generator)[: _sample_size(numbers[-1])]
    points = embeddings[rows.sort().values.to(embeddings.device)].float()
    curve = weigh_numbers(points, numbers, seed)
    few = [k for k in numbers if k <= _MOST_OF_ONE]
    one = bool(few) and bool(curve.silhouette[curve.evidence.argmax()] < _CLEAR)
    if one:
        cloud = weigh_numbers(_one_cloud(points, generator), few, seed)
        one = bool(curve.evidence.max() < _GROUPED * cloud.evidence.max())
    columns = {name: column.round(4).tolist() for name, column in curve._asdict().items()}
    plain = list(asked) if isinstance(asked, tuple) else asked  # as JSON has it
    return {"asked": plain, "best": curve.best, "second": curve.second, "one": one, **columns}


def _range(asked: Number, n: int) -> tuple[int, int]:
    """The least and the largest candidate for n images."""
    if isinstance(asked, tuple):
        return asked[0], max(asked[0], min(asked[1], n // 2))
    return 2, max(2, min(_MOST, n // _LEAST_SIZE))


def _sample_size(most: int) -> int:
    return max(_SAMPLE, _PER_CLUSTER * most)


def _words(asked: Number) -> str:
    return f"{asked[0]}:{asked[1]}" if isinstance(asked, tuple) else repr(asked)


def _one_cloud(points: Tensor, generator: torch.Generator) -> Tensor:
    """As many points of a normal distribution with the mean and covariance of these."""
    n = len(points)
    mean = points.mean(0)
    _, root = torch.linalg.qr((points - mean) / n**0.5, mode="r")  # of the covariance
    drawn = torch.randn(n, len(root), generator=generator).to(points.device)
    return F.normalize(drawn @ root + mean, dim=-1)


def candidates(low: int, high: int) -> list[int]:
    """Numbers of clusters from low to high, both included: each in turn, then 14 % apart."""
    found, k = [low], float(low)
    while found[-1] < high:
        k = max(k * _RATIO, found[-1] + 1)
        found.append(min(round(k), high))
    return found


@torch.inference_mode()
def weigh_numbers(embeddings: Tensor, numbers: list[int], seed: int) -> Curve:
    """Weigh candidate numbers of clusters.

    Each number is judged by eight k-means clusterings, each of another half of the images, after
    which every image is put to its nearest centre. Modularity (Newman and Girvan, 2004) of the
    graph of nearest neighbours falls where clusters cut through what belongs together; alone it
    has too many. The silhouette (Rousseeuw, 1987) alone has too few, two where clusters overlap.
    Measured: docs/experiments.md, "How many clusters".

    Parameters
    ----------
    embeddings
        (n, d) of unit length, n at least as large as the largest number.
    numbers
        (c,) ascending, 2 and more.
    seed
        Of the halves and of the starts.
    """
    n = len(embeddings)
    generator = torch.Generator().manual_seed(seed)
    neighbours = nearest_neighbours(embeddings, min(_NEIGHBOURS, n - 1))  # (n, m)
    smooth = embeddings + sum(embeddings[column] for column in neighbours[:, :_SMOOTHED_BY].T)
    smooth = F.normalize(smooth, dim=-1)
    halves = [torch.randperm(n, generator=generator) for _ in range(_PARTITIONS)]
    found = []
    for k in numbers:
        rows = max(math.ceil(n / 2), min(n, 2 * k))
        partitions = [_partition(smooth, half[:rows], k, seed + i) for i, half in enumerate(halves)]
        found.append(
            (
                np.mean([_modularity(labels, neighbours, k) for labels in partitions]),
                np.mean([_silhouette(labels, embeddings, k) for labels in partitions]),
            )
        )
    modularity, silhouette = np.array(found).clip(0, 1).T
    return Curve(np.array(numbers), modularity * silhouette, modularity, silhouette)


def _partition(points: Tensor, rows: Tensor, k: int, seed: int) -> Tensor:
    """Clusters (n,) of all points by k-means on some of them."""
    some = points[rows]
    labels, _ = kmeans(some, k, 1, seed)
    label = labels[0]
    size = label.bincount(minlength=k)
    centres = torch.zeros(k, points.shape[1], device=points.device).index_add_(0, label, some)
    centres = (centres / size.clamp_min(1)[:, None])[size > 0]
    return (points @ centres.T - centres.square().sum(1) / 2).argmax(1)


def _modularity(labels: Tensor, neighbours: Tensor, k: int) -> float:
    share = labels.bincount(minlength=k).double() / len(labels)
    same = (labels[neighbours] == labels[:, None]).double().mean()
    return float(same - share.square().sum())


def _silhouette(labels: Tensor, embeddings: Tensor, k: int) -> float:
    """Mean silhouette by cosine distance, whose mean over a cluster is that to its mean."""
    size = labels.bincount(minlength=k)
    total = torch.zeros(k, embeddings.shape[1], device=embeddings.device)
    total.index_add_(0, labels, embeddings)
    similar = embeddings @ total.T  # (n, k)
    own, at = size[labels], labels[:, None]
    inside = (own - similar.gather(1, at)[:, 0]) / (own - 1).clamp_min(1)
    distance = 1 - similar / size.clamp_min(1)
    distance[:, size == 0] = torch.inf
    outside = distance.scatter(1, at, torch.inf).amin(1)
    silhouette = (outside - inside) / torch.maximum(outside, inside).clamp_min(1e-9)
    return float(silhouette.where(own > 1, 0).nan_to_num(0).mean())
