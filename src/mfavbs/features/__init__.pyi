from .agreement import nearest_own
from .asking import nothing_new, remember, words_of
from .cache import FeatureCache
from .cache_copies import Copy, list_copies, prune
from .cache_files import CacheFile, cache_folder, list_cache, prune_cache
from .directly import DirectEncoding
from .elsewhere import store_folder
from .embedding import embed
from .encoding import Encoding
from .listing import Diff
from .locally import Engine, Work, encoded_here
from .measuring import Measured, measure
from .parts import Part
from .pixels import StoredPixels, framing_of, store_pixels
from .reading import ImageViews
from .segments import SegmentedFeatures
from .store import FeatureStore, check_store, compact, is_store
from .watching import Foretell
from .workers import n_cores

__all__ = [
    "CacheFile",
    "Copy",
    "Diff",
    "DirectEncoding",
    "Encoding",
    "Engine",
    "FeatureCache",
    "FeatureStore",
    "Foretell",
    "ImageViews",
    "Measured",
    "Part",
    "SegmentedFeatures",
    "StoredPixels",
    "Work",
    "cache_folder",
    "check_store",
    "compact",
    "embed",
    "encoded_here",
    "framing_of",
    "is_store",
    "list_cache",
    "list_copies",
    "measure",
    "n_cores",
    "nearest_own",
    "nothing_new",
    "prune",
    "prune_cache",
    "remember",
    "store_folder",
    "store_pixels",
    "words_of",
]
