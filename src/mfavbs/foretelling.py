"""What a run will take, in words and in bytes.

In: numbers of images, views and so on; seconds by stage. Out: stages as a person knows them, a line
of text, bytes on the disk and in memory.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mfavbs.images import LOOK
from mfavbs.model import Number

_TILES, _PER_CLUSTER, _BESIDE = 1_200, 24, 150  # pictures in a report, at the most
_TILE = 8_000  # bytes of one, in the report and kept beside it
_ROW = 400  # bytes of an image in the tables of a store and of a run
_REFERENCE, _REFITS = 5_000, 20  # images that new ones are compared with; refits that are kept
_BANK = 100_000  # images whose answers a model keeps
_MAPPED = 2**29  # bytes of features that stay in memory for a while
_OF_TOKENS = 3 / 8  # of what may be taken in memory
_COMPARED = 2**27  # similarities at once, at the most; beside them lies what is nearest
_NAMED = 3  # stages that the line names


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes
    ----------
    n_images
        Images of the source.
    n_clusters
        As they were asked for.
    n_to_encode
        Images whose features are neither in the output folder nor in the cache.
    device
        Where it is computed.
    seconds
        By stage, in their order.
    disk, disk_meanwhile, disk_free
        Bytes of the finished run; at the most while it is made; and free where it will lie.
    memory, memory_machine
        Bytes that the process will take at the most, and that the machine has.
    advice
        What had better be changed, or is good to know; a sentence each.
    """

    n_images: int
    n_clusters: Number
    n_to_encode: int
    device: str
    seconds: dict[str, float]
    disk: int
    disk_meanwhile: int
    disk_free: int
    memory: int
    memory_machine: int
    advice: list[str]

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def __str__(self) -> str:
        """The plan in a line, as a long run begins with it."""
        return f"{told(self.n_images, self.n_clusters, self.seconds)}, {size(self.disk)} on disk"


class Sizes(NamedTuple):
    """How much there is of everything.

    Attributes
    ----------
    n, v, t, f
        Images, views of each, tokens of a view, and the width of these.
    k, h, d
        Clusters, heads, and the width of the network.
    n_new
        Images to be encoded.
    stored
        Whether the features come to lie in the run folder.
    edge
        Of the images as end-to-end training keeps them meanwhile, in pixels; or 0.
    """

    n: int
    v: int
    t: int
    f: int
    k: int
    h: int
    d: int
    n_new: int
    stored: bool
    edge: int = 0

    @property
    def features(self) -> int:
        """Bytes of the features of an image, with its look."""
        return 2 * self.v * self.t * self.f + LOOK.itemsize

    @property
    def pictures(self) -> int:
        """Pictures that the report shows, about."""
        return min(self.n, min(_TILES, _PER_CLUSTER * self.k) + _BESIDE)


def disk_of(sizes: Sizes, bound: float = math.inf) -> tuple[int, int]:
    """Bytes of a finished run, and at the most while it is made.

    ``bound`` is what it may take in memory, as for :func:`memory_of`.
    """
    n, f, k, h, d = (getattr(sizes, name) for name in ("n", "f", "k", "h", "d"))
    kept = min(n, _BANK)
    model = 4 * (sizes.t * f + f * d + 24 * d * d + h * k * d) + 2 * kept * (k + d)
    reference = 2 * min(n, _REFERENCE) * f + 2 * _REFITS * k * d
    tables = n * (4 * k + _ROW)
    store = sizes.stored * n * (sizes.features + _ROW // 2)
    finished = store + model + reference + tables + _TILE * sizes.pictures
    pixels = n * 3 * sizes.edge**2
    pieces = sizes.stored * sizes.n_new * sizes.features  # until the store is written of them
    tokens = 2 * n * sizes.v * sizes.t * d  # in a file without a name, where memory has no room
    scratch = tokens if tokens > _OF_TOKENS * bound else 0
    return finished, finished + max(pieces, pixels + 2 * model, scratch)


def memory_of(sizes: Sizes, base: int, bound: int) -> int:
    """Bytes that the process takes at the most.

    Parameters
    ----------
    sizes
        Of everything.
    base
        What it takes with next to no images.
    bound
        What it may take for them; what does not fit lies on the disk.
    """
    n, v, t, f, k, h, d = sizes[:7]
    tokens = 4 * n * v * t * d
    features = 2 * n * v * t * f  # mapped from the disk, and given back a part at a time
    answers = 4 * 2 * h * min(n, _BANK) * k
    each = 4 * (3 * d + 2 * k) + 4 * 20
    compared = 2 * 4 * min(n * n, _COMPARED)
    found = tokens + min(features, _MAPPED) + answers + n * each + compared
    return base + min(bound, int(found))


def as_stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of what a person knows as a stage, from those of its parts."""
    found: dict[str, float] = {}
    for name, value in seconds.items():
        whole = "map" if name == "insight: map" else name.partition(": ")[0]
        whole = {"insight": "questions"}.get(whole, whole)
        found[whole] = found.get(whole, 0.0) + value
    return found


def told(n: int, n_clusters: Number, seconds: Mapping[str, float]) -> str:
    """``2,000 images, 10 clusters: about 1 min 40 s (features 1 min 5 s, …)``."""
    longest = sorted(seconds, key=lambda name: -seconds[name])[:_NAMED]
    named = [f"{name} {duration(seconds[name])}" for name in seconds if name in longest]
    rest = ", …" if len(seconds) > len(named) else ""
    total = duration(sum(seconds.values()))
    return f"{n:,} images, {clusters(n_clusters)}: about {total} ({', '.join(named)}{rest})"


def clusters(n_clusters: Number) -> str:
    """How many clusters there will be, in words."""
    if isinstance(n_clusters, int):
        return f"{n_clusters:,} clusters"
    if n_clusters == "auto":
        return "clusters to be counted"
    return f"{n_clusters[0]} to {n_clusters[1]} clusters"


def duration(seconds: float) -> str:
    """``8 s``, ``1 min 40 s``, ``2 h 10 min``, ``3 days 4 h``: two units at the most."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(5 * round(whole / 5), 60)
    if minutes < 60:
        return f"{minutes} min" + f" {rest} s" * bool(rest)
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h" + f" {minutes} min" * bool(minutes)
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} days" + f" {hours} h" * bool(hours)


def size(n_bytes: float) -> str:
    """``52 MB``, ``1.3 GB``."""
    if n_bytes < 1e9:
        return f"{max(1, round(n_bytes / 1e6)):,} MB"
    return f"{n_bytes / 1e9:,.1f} GB"
