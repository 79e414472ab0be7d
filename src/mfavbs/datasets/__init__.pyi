from .opening import DATASETS, open_dataset

__all__ = [
    "DATASETS",
    "open_dataset",
]
