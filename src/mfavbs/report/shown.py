"""What a report shows, as plain values: tiles, clusters, labels against clusters, and all of it."""

from dataclasses import dataclass
from typing import Any

from mfavbs.runs import Thumbnail


@dataclass(frozen=True)
class Tile:
    """One image on show; `probable`, where given, is its likeliest clusters and how likely."""

    path: str
    cluster: int
    confidence: float | None
    label: str | None
    thumbnail: Thumbnail | None
    probable: list[tuple[int, float]]


@dataclass(frozen=True)
class Cluster:
    """One cluster; `label` is its majority label, `purity` that label's share, both if known.

    `name` is what a person called it, or a suggestion where `is_given` is false; `words` are other
    suggestions; `stability` is how well it comes back in refits, in [0, 1].
    """

    number: int
    size: int
    share: float
    confidence: float | None
    label: str | None
    purity: float | None
    most: list[Tile]
    least: list[Tile]
    name: str | None
    is_given: bool
    words: list[str]
    stability: float | None
    is_apart: bool
    colour: str


@dataclass(frozen=True)
class Flag:
    """What is wrong with some pictures, how many there are, and a few of them."""

    name: str
    count: int
    tiles: list[Tile]


@dataclass(frozen=True)
class Confusion:
    """How many images of a cluster (row) carry a label (column); the totals count those left out.

    Columns go from the most to the least frequent label, rows by their majority label, so that
    good clusters lie along the diagonal.
    """

    clusters: list[int]
    labels: list[str]
    counts: list[list[int]]
    n_clusters: int
    n_labels: int


@dataclass(frozen=True)
class ReportData:
    """All of it, see :func:`mfavbs.report.data.collect`.

    The clusters stand in the order of the tree. `is_chance` says that confidence is the chance of
    the same cluster in a refit; `number` how their number was found, with the
    `evidence` for each that was tried, `changes`
    what became of images and clusters in the last update; `map` is SVG.
    """

    name: str
    source: str
    created: str | None
    n_images: int
    n_failures: int
    n_skipped: int
    n_warnings: int
    n_clusters: int
    n_clusters_found: int
    confidence: float | None
    scores: dict[str, dict[str, float]]
    coverage: float | None
    clusters: list[Cluster]
    least_certain: list[Tile]
    confusion: Confusion | None
    losses: dict[str, list[tuple[float, float]]]
    seconds: dict[str, float]
    peak_memory_mib: float | None
    settings: dict[str, dict[str, Any]]
    failures: list[tuple[str, str]]
    skipped: list[tuple[str, str]]
    notes: list[str]
    is_chance: bool
    number: str | None
    evidence: list[tuple[int, float]]
    chosen: int | None
    named_by: str
    changes: list[str]
    map: str | None
    outliers: list[Tile]
    n_outliers: int
    copies: list[list[Tile]]
    n_copies: int
    flags: list[Flag]

    @property
    def total(self) -> float:
        """Seconds in all; those of ``training: epochs`` are among those of ``training``."""
        wholes = {name for name in self.seconds if ": " not in name}
        parts = {name for name in self.seconds if name.partition(": ")[0] in wholes - {name}}
        return sum(self.seconds[name] for name in self.seconds.keys() - parts)

    def thumbnails(self) -> dict[str, Thumbnail]:
        """Every thumbnail on show, by path."""
        tiles = [tile for c in self.clusters for tile in (*c.most, *c.least)]
        tiles += [*self.least_certain, *self.outliers]
        tiles += [tile for group in self.copies for tile in group]
        tiles += [tile for flag in self.flags for tile in flag.tiles]
        return {tile.path: tile.thumbnail for tile in tiles if tile.thumbnail}
