"""What a report shows, as plain values: tiles, clusters, labels against clusters, and all of it."""

from dataclasses import dataclass
from typing import Any

from mfavbs.report.thumbnails import Thumbnail


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
    """One cluster; `label` is its majority label, `purity` that label's share, both if known."""

    number: int
    size: int
    share: float
    confidence: float | None
    label: str | None
    purity: float | None
    most: list[Tile]
    least: list[Tile]


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
    """All of it, see :func:`mfavbs.report.data.collect`; the clusters go from large to small."""

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

    def thumbnails(self) -> dict[str, Thumbnail]:
        """Every thumbnail on show, by path."""
        tiles = [tile for c in self.clusters for tile in (*c.most, *c.least)]
        tiles += self.least_certain
        return {tile.path: tile.thumbnail for tile in tiles if tile.thumbnail}
