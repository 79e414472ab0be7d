"""In: sizes. Out: features of images in well-separated clusters on the sphere, and a network."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mfavbs.files import write_json, write_reasons
from mfavbs.model.network import Network


def blobs(n=90, n_views=2, n_tokens=1, n_features=12, k=3, noise=0.1, seed=0):
    """Features (n, v, t, d), float32, and the cluster (n,) that each image was drawn from."""
    rng = np.random.default_rng(seed)
    # Orthogonal centres: as far apart as directions can be without being opposite.
    centres = np.linalg.qr(rng.normal(size=(n_features, k)))[0].T
    y = np.arange(n) % k
    images = centres[y] + noise * rng.normal(size=(n, n_features))
    views = images[:, None, None] + noise / 2 * rng.normal(size=(n, n_views, n_tokens, n_features))
    return views.astype(np.float32), y


def around(n, centre=0, seed=0, d=16, noise=0.3):
    """(n, d) float32 of unit length around one axis."""
    rng = np.random.default_rng(seed)
    points = np.eye(d)[centre] + noise * rng.normal(size=(n, d))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def small_network(features, k=3, n_cluster_heads=2, dim=8, seed=0, **mfavbs):
    """An untrained network for ``features`` (n, v, t, d), and their tokens."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        options = {"n_heads": 2, "gate": 0.05, **mfavbs}
        network = Network(features.shape[3], features.shape[2], k, n_cluster_heads, dim, **options)
    network.fit_projection(features, torch.Generator().manual_seed(seed))
    return network, network.project(features)


def save_store(folder: Path, y, features) -> Path:
    """A feature store as `mfavbs embed` leaves one of images in a sub-folder for each label."""
    folder.mkdir()
    np.save(folder / "features.npy", features.astype(np.float16))
    n = len(features)
    columns = {
        "row": range(n),
        "path": [f"{label}/{i}.png" for i, label in enumerate(y)],
        "size": [1] * n,
        "mtime": [0.0] * n,
        "hash": [f"{i:016x}" for i in range(n)],
        "label": [str(label) for label in y],
    }
    pq.write_table(
        pa.table({name: list(c) for name, c in columns.items()}), folder / "manifest.parquet"
    )
    write_reasons(folder / "failures.csv", [])
    made_by = {"encoder": "pixels", "weights_hash": "", "image_size": 8, "grid": 0, "n_views": 2}
    made_by |= {"augmentation": "shift", "views_version": 2}
    write_json(folder / "store.json", {"schema": 1, **made_by, "seed": 0, "source": {}})
    return folder
