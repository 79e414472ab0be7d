from .agreement import nearest_own
from .asking import nothing_new, remember, words_of
from .cache_files import CacheFile, cache_folder, list_cache, prune_cache
from .directly import DirectEncoding
from .embedding import embed
from .listing import Diff
from .measuring import Measured, measure
from .pixels import StoredPixels, framing_of, store_pixels
from .segments import SegmentedFeatures
from .store import FeatureStore, check_store, compact, is_store
from .watching import Foretell

__all__ = [
    "CacheFile",
    "Diff",
    "DirectEncoding",
    "FeatureStore",
    "Foretell",
    "Measured",
    "SegmentedFeatures",
    "StoredPixels",
    "cache_folder",
    "check_store",
    "compact",
    "embed",
    "framing_of",
    "is_store",
    "list_cache",
    "measure",
    "nearest_own",
    "nothing_new",
    "prune_cache",
    "remember",
    "store_pixels",
    "words_of",
]
