from .embedding import embed
from .listing import Diff
from .segments import SegmentedFeatures
from .store import FeatureStore, check_store, compact, is_store

__all__ = [
    "Diff",
    "FeatureStore",
    "SegmentedFeatures",
    "check_store",
    "compact",
    "embed",
    "is_store",
]
