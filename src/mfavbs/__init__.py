"""Cluster images without labels: multiple fusing-augmenting ViT blocks on frozen features."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfavbs.clustering import cluster_images
    from mfavbs.datasets.opening import open_dataset
    from mfavbs.encoders.encoder import load_encoder
    from mfavbs.errors import MfavbsError
    from mfavbs.features.embedding import FeatureStore, embed
    from mfavbs.images.opening import open_images
    from mfavbs.metrics import score
    from mfavbs.model.blocks import FAVB, MFAVBs, ViT
    from mfavbs.model.estimator import MFAVBsClustering
    from mfavbs.prediction import predict_images
    from mfavbs.runs.reading import Run

__version__ = "0.1.0"

# Imported when first asked for: torch takes seconds, and `mfavbs --help` needs none of it.
_HOME = {
    "FAVB": "blocks",
    "FeatureStore": "features",
    "MFAVBs": "blocks",
    "MFAVBsClustering": "estimator",
    "MfavbsError": "errors",
    "Run": "results",
    "ViT": "blocks",
    "cluster_images": "clustering",
    "embed": "features",
    "load_encoder": "encoders",
    "open_dataset": "datasets",
    "open_images": "images",
    "predict_images": "prediction",
    "score": "metrics",
}
__all__ = [
    "FAVB",
    "FeatureStore",
    "MFAVBs",
    "MFAVBsClustering",
    "MfavbsError",
    "Run",
    "ViT",
    "cluster_images",
    "embed",
    "load_encoder",
    "open_dataset",
    "open_images",
    "predict_images",
    "score",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"mfavbs.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mfavbs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
