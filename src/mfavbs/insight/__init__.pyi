from .confidence import chance_of_same_cluster
from .copies import OneOrTwo, fit_one_or_two, group_copies
from .drift import Drift, find_drift, two_sample_test
from .hierarchy import describe_tree, grow_tree, order_clusters, returns
from .map import map_images
from .membership import Reference, choose_rows, make_reference, strangeness
from .names import Name, cluster_means, frequent_words, nearest_words
from .number import describe_number
from .outliers import Others, choose_others, find_outliers, oddness, p_values
from .quality import FLAGS, flag_pictures
from .trust import agreement, cluster_stability, heads_say, refit_heads
from .typical import different_images, typical_images

__all__ = [
    "FLAGS",
    "Drift",
    "Name",
    "OneOrTwo",
    "Others",
    "Reference",
    "agreement",
    "chance_of_same_cluster",
    "choose_others",
    "choose_rows",
    "cluster_means",
    "cluster_stability",
    "describe_number",
    "describe_tree",
    "different_images",
    "find_drift",
    "find_outliers",
    "fit_one_or_two",
    "flag_pictures",
    "frequent_words",
    "group_copies",
    "grow_tree",
    "heads_say",
    "make_reference",
    "map_images",
    "nearest_words",
    "oddness",
    "order_clusters",
    "p_values",
    "refit_heads",
    "returns",
    "strangeness",
    "two_sample_test",
    "typical_images",
]
