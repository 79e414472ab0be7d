"""A run's clusters, taken away: folders of images, a table, or what other programs read.

In: a run folder, and its images where they lie. Out: a folder of this program's own, in which a
second export changes only what changed. Nothing of the user's is moved, changed or deleted.
"""

import hashlib
import io
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mfavbs.errors import RunError
from mfavbs.files import safe_name, spreadsheet_path, user_path
from mfavbs.images import Images, open_images, reopen_images
from mfavbs.placing import HOW, Item, Placed, place
from mfavbs.runs import Run, read_run

KINDS = ("folders", "imagefolder", "csv", "parquet", "fiftyone")
_FOLDER = 60  # bytes of a folder's name at most: with a file's 120 a path suits Windows


def export_run(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    how: str = "auto",
    images: Images | str | Path | None = None,
    verbose: bool = True,
) -> Placed:
    """Write the clusters of a run into a folder.

    Parameters
    ----------
    run
        A run folder.
    to
        ``"folders"``: a folder of images for each cluster. ``"imagefolder"``: the same with a
        metadata.csv, as torchvision's and Hugging Face's ImageFolder read it. ``"csv"`` and
        ``"parquet"``: one table, a row for each image. ``"fiftyone"``: a
        FiftyOneImageClassificationDataset, whose data.json points at the images where they lie.
    out
        The folder: a new or an empty one, or that of an earlier export, which is brought up to
        date. It may not lie among the images.
    how
        ``"hardlink"``: no room is taken, and a change to one is a change to both. ``"symlink"``:
        breaks when the images move. ``"copy"``. ``"auto"``: hard links, and copies where those
        cannot be made. Images in a tar or an array are always copied.
    images
        Where the images lie now; by default where the run says they were.
    verbose
        Show progress on stderr.

    Returns
    -------
    Placed
        The folder and how many files were made, kept, removed and could not be had.

    Raises
    ------
    RunError
        The run cannot be read, the folder holds files of others or cannot be written.
    SourceError
        The images are not where they were.
    """
    if to not in KINDS:
        raise RunError(f"to={to!r} should be one of {', '.join(KINDS)}")
    if how not in HOW:
        raise RunError(f"how={how!r} should be one of {', '.join(HOW)}")
    read = read_run(user_path(run))
    out = user_path(out)
    if to in ("csv", "parquet"):
        content = {"csv": _as_csv, "parquet": _as_parquet}[to](read.table())
        return place(out, to, {f"clusters.{to}": Item(content=content)}, how, verbose=verbose)
    if images is None:
        source = read.record["source"]
        images = reopen_images(source, read.paths)
    elif not isinstance(images, Images):
        images = open_images(images)
    _check_outside(out, images)
    return place(out, to, _items(read, to, images), how, verbose=verbose)


def _check_outside(out: Path, images: Images) -> None:
    location = Path(images.location) if images.kind == "folder" else None
    if location and out.resolve().is_relative_to(location.resolve()):
        raise RunError(
            f"{out} lies among the images, in {location}: the next run would take what is exported "
            "for more of them. Give an out= elsewhere."
        )


def _items(run: Run, to: str, images: Images) -> dict[str, Item]:
    """What is to be in the folder, by path relative to it."""
    folders = cluster_folders(run)
    row_of = {key: row for row, key in enumerate(images.keys)}
    names = _file_names(run, folders)
    items: dict[str, Item] = {}
    for name, path in zip(names, run.paths, strict=True):
        row = row_of.get(path)
        if to != "fiftyone" or row is None or images.file(row) is None:
            items[name] = Item(images, -1 if row is None else row, path)
    if to == "imagefolder":
        table = run.table().add_column(0, "file_name", pa.array(names, pa.string()))
        items["metadata.csv"] = Item(content=_as_csv(table))
    if to == "fiftyone":
        files = [images.file(row_of[path]) if path in row_of else None for path in run.paths]
        items |= _fiftyone(run, folders, names, files)
    return items


def cluster_folders(run: Run) -> dict[int, str]:
    """A folder for each cluster: its number, and its name or, with ``maybe``, the suggested one."""
    width = len(str(run.metrics["n_clusters"] - 1))
    folders = {}
    for cluster, (name, is_given) in enumerate(run.cluster_names):
        said = "" if name is None else f" {name}" if is_given else f" maybe {name}"
        folders[cluster] = safe_name(f"{cluster:0{width}d}{said}", _FOLDER)
    return folders


def _file_names(run: Run, folders: Mapping[int, str]) -> list[str]:
    """(n,) paths to export to: those that would be one name on some system get a mark each."""
    plain = []
    for path, cluster in zip(run.paths, run.cluster.tolist(), strict=True):
        name = path.rstrip("/").rpartition("/")[2]
        name = name if "." in name else f"{name}.png"  # of an array
        plain.append(f"{folders[cluster]}/{safe_name(name)}")
    count = Counter(map(_on_any_system, plain))
    return [
        _marked(name, path) if count[_on_any_system(name)] > 1 else name
        for name, path in zip(plain, run.paths, strict=True)
    ]


def _on_any_system(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def _marked(name: str, path: str) -> str:
    """A name with a few digits that its path alone decides."""
    stem, _, suffix = name.rpartition(".")
    digest = hashlib.blake2b(path.encode("utf-8", "backslashreplace"), digest_size=5).hexdigest()
    return f"{stem}-{digest}.{suffix}"


def _fiftyone(
    run: Run, folders: Mapping[int, str], names: Sequence[str], files: Sequence[str | None]
) -> dict[str, Item]:
    """labels.json and data.json: by a key for each image its cluster, and where it lies."""
    table = run.table()
    more = [name for name in table.column_names if name not in ("path", "cluster", "confidence")]
    attributes = table.select(more).to_pylist()
    labels = {}
    for row, path in enumerate(run.paths):
        label: dict[str, Any] = {"label": folders[int(run.cluster[row])]}
        label["confidence"] = float(run.confidence[row])
        label["attributes"] = {k: v for k, v in attributes[row].items() if v is not None}
        labels[path] = label
    used = [folders[cluster] for cluster in sorted(set(run.cluster.tolist()))]

    def where(out: Path) -> bytes:
        found = zip(run.paths, names, files, strict=True)
        return _as_json({path: file or str(out / name) for path, name, file in found})

    content = _as_json({"classes": used, "labels": labels})
    return {"labels.json": Item(content=content), "data.json": Item(content=where)}


def _as_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=True).encode()


def _as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _as_csv(table: pa.Table) -> bytes:
    """With a byte order mark, lists as words, no text that a spreadsheet takes for a formula."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        if pa.types.is_list(table[name].type):
            values = [None if value is None else "; ".join(map(str, value)) for value in values]
        if values and any(isinstance(value, str) for value in values):
            shown: Callable[[str], str] = spreadsheet_path if name != "file_name" else str
            values = [None if value is None else shown(value) for value in values]
        columns[name] = pa.array(values)
    buffer = io.BytesIO(b"\xef\xbb\xbf")
    buffer.seek(0, io.SEEK_END)
    pa_csv.write_csv(pa.table(columns), buffer)
    return buffer.getvalue()
