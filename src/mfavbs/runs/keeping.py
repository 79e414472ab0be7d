"""The thumbnails of a report, kept in the run: it can be written again when the images are gone.

In: thumbnails by path. Out: ``thumbnails.parquet`` with path, kind, image, width and height, a row
for each image on show, 1,200 at the most; and the same read back.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mfavbs.files import write_whole
from mfavbs.runs.thumbnails import Thumbnail

KEPT = "thumbnails.parquet"
_KINDS = ("png", "webp")


def keep_thumbnails(folder: Path, made: Mapping[str, Thumbnail]) -> None:
    """Write them all into the run, in place of those that it holds; none are left as they are."""
    if not made:
        return
    rows = sorted(made.items())
    headers = [thumbnail.uri.partition(";")[0] for _, thumbnail in rows]
    images = [base64.b64decode(thumbnail.uri.partition(",")[2]) for _, thumbnail in rows]
    table = pa.table(
        {
            "path": pa.array([path for path, _ in rows], pa.string()),
            "kind": [header.removeprefix("data:image/") for header in headers],
            "image": pa.array(images, pa.binary()),
            "width": pa.array([thumbnail.width for _, thumbnail in rows], pa.int32()),
            "height": pa.array([thumbnail.height for _, thumbnail in rows], pa.int32()),
        }
    )
    write_whole(folder / KEPT, lambda file: pq.write_table(table, file))


def read_thumbnails(folder: Path) -> dict[str, Thumbnail]:
    """Those that the run holds, by path; none where the file is not there or damaged."""
    try:
        with pq.ParquetFile(folder / KEPT) as file:
            rows = file.read(columns=["path", "kind", "image", "width", "height"]).to_pylist()
    except (OSError, pa.ArrowException):
        return {}  # made again as far as the images are there
    return {
        row["path"]: Thumbnail(_uri(row["kind"], row["image"]), row["width"], row["height"])
        for row in rows
        if row["kind"] in _KINDS and None not in row.values()
    }


def _uri(kind: str, image: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
