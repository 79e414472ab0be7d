from .clustering import cluster_images
from .datasets import open_dataset
from .encoders import load_encoder
from .errors import MfavbsError
from .exporting import export_run
from .features import FeatureStore, embed
from .foretelling import Plan
from .images import open_images
from .metrics import score
from .model import FAVB, MFAVBs, MFAVBsClustering, ViT
from .planning import plan
from .prediction import predict_images
from .runs import Run

__version__: str

__all__ = [
    "FAVB",
    "FeatureStore",
    "MFAVBs",
    "MFAVBsClustering",
    "MfavbsError",
    "Plan",
    "Run",
    "ViT",
    "cluster_images",
    "embed",
    "export_run",
    "load_encoder",
    "open_dataset",
    "open_images",
    "plan",
    "predict_images",
    "score",
]
