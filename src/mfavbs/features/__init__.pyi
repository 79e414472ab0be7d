from .embedding import embed
from .store import FeatureStore, check_store, is_store

__all__ = [
    "FeatureStore",
    "check_store",
    "embed",
    "is_store",
]
