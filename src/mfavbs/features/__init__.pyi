from .embedding import embed
from .store import FeatureStore, is_store

__all__ = [
    "FeatureStore",
    "embed",
    "is_store",
]
