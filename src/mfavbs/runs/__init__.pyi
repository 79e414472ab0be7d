from .columns import write_insight, write_labels
from .comparing import compare_runs, describe_changes, rows_in
from .identity import Changes, changes, continue_numbers
from .keeping import keep_thumbnails, read_thumbnails
from .labels import read_all_probabilities, read_columns, read_probabilities
from .naming import NAMES, read_names, write_names
from .picture import colour, draw_map
from .reading import (
    PREDICTION,
    SCHEMA,
    Run,
    read_clusters,
    read_record,
    read_run,
)
from .reference import read_reference, write_reference
from .scoring import evaluate_run, read_truth
from .swapping import PREVIOUS, finish_swap, go_back, is_swapping, stage, swap_in
from .thumbnails import Thumbnail, thumbnails
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
    "Changes",
    "Run",
    "Thumbnail",
    "begin_run",
    "changes",
    "check_folder",
    "colour",
    "compare_runs",
    "continue_numbers",
    "cut_tree",
    "describe_changes",
    "draw_map",
    "evaluate_run",
    "finish_swap",
    "go_back",
    "is_swapping",
    "keep_thumbnails",
    "read_all_probabilities",
    "read_clusters",
    "read_columns",
    "read_names",
    "read_probabilities",
    "read_record",
    "read_reference",
    "read_run",
    "read_thumbnails",
    "read_truth",
    "rows_in",
    "stage",
    "swap_in",
    "thumbnails",
    "tidy_run",
    "unwritable",
    "write_insight",
    "write_labels",
    "write_names",
    "write_record",
    "write_reference",
    "write_tables",
]
