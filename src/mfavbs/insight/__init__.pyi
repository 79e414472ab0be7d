from .identity import Changes, changes, continue_numbers
from .map import map_images
from .names import Name, cluster_means, frequent_words, nearest_words
from .typical import different_images, typical_images

__all__ = [
    "Changes",
    "Name",
    "changes",
    "cluster_means",
    "continue_numbers",
    "different_images",
    "frequent_words",
    "map_images",
    "nearest_words",
    "typical_images",
]
