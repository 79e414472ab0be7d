from .columns import write_insight, write_labels
from .labels import read_all_probabilities, read_columns, read_probabilities
from .naming import NAMES, read_names, write_names
from .reading import (
    PREDICTION,
    SCHEMA,
    Run,
    read_clusters,
    read_record,
    read_run,
)
from .scoring import evaluate_run, read_truth
from .swapping import PREVIOUS, finish_swap, go_back, is_swapping, stage, swap_in
from .tree import cut_tree
from .writing import (
    CHANGES,
    CHECKPOINT,
    FEATURES,
    MODEL,
    PIXELS,
    begin_run,
    check_folder,
    tidy_run,
    unwritable,
    write_record,
    write_tables,
)

__all__ = [
    "CHANGES",
    "CHECKPOINT",
    "FEATURES",
    "MODEL",
    "NAMES",
    "PIXELS",
    "PREDICTION",
    "PREVIOUS",
    "SCHEMA",
    "Run",
    "begin_run",
    "check_folder",
    "cut_tree",
    "evaluate_run",
    "finish_swap",
    "go_back",
    "is_swapping",
    "read_all_probabilities",
    "read_clusters",
    "read_columns",
    "read_names",
    "read_probabilities",
    "read_record",
    "read_run",
    "read_truth",
    "stage",
    "swap_in",
    "tidy_run",
    "unwritable",
    "write_insight",
    "write_labels",
    "write_names",
    "write_record",
    "write_tables",
]
