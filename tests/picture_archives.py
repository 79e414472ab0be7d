"""Archives of pictures for tests: tars, and tables as Hugging Face `datasets` writes them."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
from image_files import encoded, noise, red

PICTURES = [encoded(red()), encoded(noise(), "JPEG"), encoded(noise())]


def datasets_table(pictures, paths, labels=None):
    """As Hugging Face `datasets` writes its Image feature and ClassLabel."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b, "path": p} for b, p in zip(pictures, paths, strict=True)]
    columns = {"image": pa.array(rows, kind)}
    features = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features["label"] = {"_type": "ClassLabel", "names": ["cat", "dog"]}
    table = pa.table(columns)
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def written(table, path, rows_a_group=2):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows_a_group)
    else:
        opened = pa.ipc.new_stream if path.stem == "stream" else pa.ipc.new_file
        with opened(path, table.schema) as file:
            file.write_table(table, max_chunksize=rows_a_group)
    return path


def tarred(path, members):
    mode = "w" if path.suffix == ".tar" else "w:gz"
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "x.png"
            else:
                info.size, info.mtime = len(content), 1234
            tar.addfile(info, io.BytesIO(content or b""))
    return path
