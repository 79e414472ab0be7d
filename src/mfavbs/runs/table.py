"""A run as one table: a row for each image, with all that is known of it.

In: labels.parquet, names of the clusters, coordinates. Out: a pyarrow table.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfavbs.runs.labels import damaged


def table_of_images(
    path: Path, names: Sequence[str | None], where: np.ndarray | None = None
) -> pa.Table:
    """The columns of labels.parquet but the probabilities, with names of clusters and the map.

    Parameters
    ----------
    path
        Of labels.parquet.
    names
        (k,) names of the clusters, None for those without.
    where
        (n, 2) coordinates, or None.

    Returns
    -------
    pyarrow.Table
        n rows: path, cluster, name where one is known, whatever else labels.parquet has, and x
        and y of the map.
    """
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name != "probabilities"]
            table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "the labels of a run as Parquet", error) from error
    if "label" in table.column_names:  # an empty one is none
        place = table.column_names.index("label")
        label = table["label"].cast(pa.string())
        empty = pc.equal(pc.utf8_trim_whitespace(label), "")
        table = table.set_column(place, "label", pc.if_else(empty, None, label))
    if any(names):
        named = [names[cluster] for cluster in table["cluster"].to_pylist()]
        place = table.column_names.index("cluster") + 1
        table = table.add_column(place, "name", pa.array(named, pa.string()))
    if where is not None:
        for axis, name in enumerate("xy"):
            table = table.append_column(name, pa.array(where[:, axis], pa.float32()))
    return table
