from .copies import OneOrTwo, fit_one_or_two, group_copies
from .hierarchy import describe_tree, grow_tree, order_clusters, returns
from .identity import Changes, changes, continue_numbers
from .map import map_images
from .names import Name, cluster_means, frequent_words, nearest_words
from .outliers import Others, choose_others, find_outliers, oddness, p_values
from .quality import FLAGS, flag_pictures
from .trust import agreement, cluster_stability, refit_heads
from .typical import different_images, typical_images

__all__ = [
    "FLAGS",
    "Changes",
    "Name",
    "OneOrTwo",
    "Others",
    "agreement",
    "changes",
    "choose_others",
    "cluster_means",
    "cluster_stability",
    "continue_numbers",
    "describe_tree",
    "different_images",
    "find_outliers",
    "fit_one_or_two",
    "flag_pictures",
    "frequent_words",
    "group_copies",
    "grow_tree",
    "map_images",
    "nearest_words",
    "oddness",
    "order_clusters",
    "p_values",
    "refit_heads",
    "returns",
    "typical_images",
]
