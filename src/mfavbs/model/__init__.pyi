from .asking import FEWEST, Number, checked_number, least_images
from .assignment import assign, average_with_neighbours, decide
from .blocks import FAVB, MFAVBs, ViT
from .copies import find_copies
from .cutting import with_clusters
from .defaults import resolve
from .end_to_end import EndToEnd
from .estimator import MFAVBsClustering
from .fitting import check_memory
from .head_selection import choose_head, leave_one_out_ridge_error
from .heads import ClusterHeads, InstanceHead
from .kmeans import kmeans
from .looking import Seen, look, look_at_tokens, mean_features
from .losses import balance_loss, cluster_loss, instance_loss
from .neighbours import nearest_neighbours
from .network import Network, mean_view
from .number import Curve, candidates, find_number, tell_number, weigh_numbers
from .pairs import Pair, disjoint_pairs, paper_pair
from .pixel_answers import assign_pixels
from .pixel_network import PixelNetwork
from .pixel_training import train_pixels
from .pixel_views import PixelViews
from .projection import fit_projection, unit
from .renumbering import renumber
from .room import EMBEDDINGS, INDEX, TOKENS, Room, make_array, make_room
from .stem import PixelView, Stem, check_image_size

__all__ = [
    "EMBEDDINGS",
    "FAVB",
    "FEWEST",
    "INDEX",
    "TOKENS",
    "ClusterHeads",
    "Curve",
    "EndToEnd",
    "InstanceHead",
    "MFAVBs",
    "MFAVBsClustering",
    "Network",
    "Number",
    "Pair",
    "PixelNetwork",
    "PixelView",
    "PixelViews",
    "Room",
    "Seen",
    "Stem",
    "ViT",
    "assign",
    "assign_pixels",
    "average_with_neighbours",
    "balance_loss",
    "candidates",
    "check_image_size",
    "check_memory",
    "checked_number",
    "choose_head",
    "cluster_loss",
    "decide",
    "disjoint_pairs",
    "find_copies",
    "find_number",
    "fit_projection",
    "instance_loss",
    "kmeans",
    "least_images",
    "leave_one_out_ridge_error",
    "look",
    "look_at_tokens",
    "make_array",
    "make_room",
    "mean_features",
    "mean_view",
    "nearest_neighbours",
    "paper_pair",
    "renumber",
    "resolve",
    "tell_number",
    "train_pixels",
    "unit",
    "weigh_numbers",
    "with_clusters",
]
