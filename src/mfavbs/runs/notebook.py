"""What a run shows in a notebook: its clusters, one of them, the map, a table.

In: a run. Out: objects that a notebook shows, and a table.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfavbs.errors import RunError, SourceError
from mfavbs.images import IMAGE_MEMORY, recorded_range, reopen_images
from mfavbs.runs.keeping import read_thumbnails
from mfavbs.runs.naming import read_names
from mfavbs.runs.picture import draw_map
from mfavbs.runs.showing import Drawing, Gallery, Group, ascii_safe, tile
from mfavbs.runs.table import table_of_images
from mfavbs.runs.thumbnails import Thumbnail, thumbnails

_MOST = 18  # images of a cluster of either kind
_LISTED = 50  # clusters that a notebook lists
_IN_A_ROW = 6


class Notebook:
    """The part of :class:`mfavbs.Run` that a person looks at."""

    folder: Path
    path: pa.ChunkedArray
    cluster: np.ndarray
    confidence: np.ndarray
    metrics: dict[str, Any]
    record: dict[str, Any]

    @property
    def insight(self) -> dict[str, Any] | None:
        """What insight.json says, or None."""
        raise NotImplementedError

    @property
    def map(self) -> np.ndarray | None:
        """(n, 2) places on the map, or None."""
        raise NotImplementedError

    @property
    def named(self) -> dict[int, str]:
        """Names that a person gave, by cluster."""
        return read_names(self.folder)

    @property
    def cluster_names(self) -> list[tuple[str | None, bool]]:
        """(k,) what each cluster is called, and whether a person said so or it is a suggestion."""
        given = self.named
        about = (self.insight or {}).get("clusters", {})
        names: list[tuple[str | None, bool]] = []
        for cluster in range(self.metrics["n_clusters"]):
            suggested = about.get(str(cluster), {}).get("names") or [{}]
            name = given.get(cluster)
            names.append((name, True) if name else (suggested[0].get("word"), False))
        return names

    def title_of(self, cluster: int) -> str:
        """``Cluster 3 "golf ball"``, with ``perhaps`` before a name that is a suggestion."""
        name, is_given = self.cluster_names[cluster]
        said = "" if name is None else f' "{name}"' if is_given else f' perhaps "{name}"'
        return f"Cluster {cluster}{said}"

    def faces(self, cluster: int, kind: str, n_images: int) -> list[int]:
        """Rows of a cluster's ``typical`` or ``different`` images, as many as the run has."""
        about = (self.insight or {}).get("clusters", {}).get(str(cluster), {})
        rows = [row for row in about.get(kind, []) if 0 <= row < len(self.cluster)]
        if not rows and kind == "typical":  # of an earlier version: the most confident
            members = np.flatnonzero(self.cluster == cluster)
            order = np.argsort(-np.nan_to_num(self.confidence[members]), kind="stable")
            rows = members[order].tolist()
        return rows[:n_images]

    def show(self, cluster: int, n_images: int = 8) -> Gallery:
        """The most typical images of a cluster, and those that differ most from one another.

        Parameters
        ----------
        cluster
            Its number.
        n_images
            How many of either, 18 at most.

        Returns
        -------
        Gallery
            A notebook shows the images, ``print`` their paths, and ``paths`` has them.

        Raises
        ------
        RunError
            There is no such cluster.
        """
        k = self.metrics["n_clusters"]
        if not 0 <= cluster < k:
            raise RunError(f"cluster={cluster} should be one of the run's, 0 to {k - 1}")
        rows = {
            kind: self.faces(cluster, kind, min(n_images, _MOST))
            for kind in ("typical", "different")
        }
        small = self._thumbnails([*rows["typical"], *rows["different"]])
        groups = [
            Group(f"Most {kind}", [small[row] for row in shown]) for kind, shown in rows.items()
        ]
        size = int((self.cluster == cluster).sum())
        title = f"{self.title_of(cluster)}, {size:,} image{'s' * (size != 1)}"
        return Gallery(title, [group for group in groups if group.images])

    def plot_map(self) -> Drawing:
        """The map of all images, as the report draws it.

        Raises
        ------
        RunError
            The run has none.
        """
        places = self.map
        if places is None:
            raise RunError(
                f"The run in {self.folder} has no map; `mfavbs report {self.folder}` makes it."
            )
        middles = {
            number: rows[0]
            for number in np.unique(self.cluster).tolist()
            if (rows := self.faces(number, "typical", 1))
        }
        small = self._thumbnails(middles.values())
        pictures = {number: small[row][1] for number, row in middles.items()}
        there = {number: picture for number, picture in pictures.items() if picture}
        names = [
            name and ascii_safe(name if is_given else f"{name}?")
            for name, is_given in self.cluster_names
        ]
        return Drawing(draw_map(places, self.cluster, there, names, links=False))

    def table(self) -> pa.Table:
        """All that is known of each image but its probabilities, a row for each."""
        names = [name for name, _ in self.cluster_names]
        return table_of_images(self.folder / "labels.parquet", names, self.map)

    def to_pandas(self) -> Any:
        """A data frame of :meth:`table`: path, cluster, name, confidence, label if known, ...

        Raises
        ------
        ImportError
            pandas is not installed; mfavbs itself does without.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "Run.to_pandas needs pandas; install it: pip install pandas"
            ) from error
        return self.table().to_pandas()

    def _repr_html_(self) -> str:
        """The largest clusters, a row of typical images for each, as far as they are kept."""
        kept = read_thumbnails(self.folder)
        numbers, sizes = np.unique(self.cluster, return_counts=True)
        order = np.argsort(-sizes, kind="stable")[:_LISTED]
        rows = []
        for number, size in zip(numbers[order].tolist(), sizes[order].tolist(), strict=True):
            paths = [self.path[row].as_py() for row in self.faces(number, "typical", _MOST)]
            shown = [path for path in paths if path in kept][:_IN_A_ROW]
            tiles = "".join(tile(path, kept[path], 64) for path in shown)
            title = escape(ascii_safe(self.title_of(number)))
            rows.append(f"<tr><td>{title}</td><td>{size:,}</td><td>{tiles}</td></tr>")
        said = "<br>".join(escape(ascii_safe(line)) for line in repr(self).splitlines())
        return f"<p>{said}</p><table>{''.join(rows)}</table>"

    def _thumbnails(self, rows: Iterable[int]) -> dict[int, tuple[str, Thumbnail | None]]:
        """Path and thumbnail of some rows: kept ones, else made where the images are there."""
        paths = {row: str(self.path[row].as_py()) for row in rows}
        small = read_thumbnails(self.folder)
        missing = set(paths.values()) - small.keys()
        if missing:
            made_by = self.record.get("encoder") or {}
            memory = made_by.get("image_memory", IMAGE_MEMORY)
            try:
                images = reopen_images(self.record["source"], sorted(missing))
                small |= thumbnails(images, missing, recorded_range(made_by), memory)[0]
            except SourceError:
                pass  # the paths are shown in their place
        return {row: (path, small.get(path)) for row, path in paths.items()}
