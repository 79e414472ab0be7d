from .identity import Changes, changes, continue_numbers
from .map import map_images
from .names import Name, cluster_means, frequent_words, nearest_words
from .trust import agreement, cluster_stability, refit_heads
from .typical import different_images, typical_images

__all__ = [
    "Changes",
    "Name",
    "agreement",
    "changes",
    "cluster_means",
    "cluster_stability",
    "continue_numbers",
    "different_images",
    "frequent_words",
    "map_images",
    "nearest_words",
    "refit_heads",
    "typical_images",
]
