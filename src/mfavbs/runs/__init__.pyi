from .reading import (
    PREDICTION,
    SCHEMA,
    Run,
    read_clusters,
    read_probabilities,
    read_record,
    read_run,
    read_truth,
)
from .scoring import evaluate_run
from .writing import (
    CHECKPOINT,
    FEATURES,
    MODEL,
    begin_run,
    check_folder,
    tidy_run,
    unwritable,
    write_labels,
    write_record,
)

__all__ = [
    "CHECKPOINT",
    "FEATURES",
    "MODEL",
    "PREDICTION",
    "SCHEMA",
    "Run",
    "begin_run",
    "check_folder",
    "evaluate_run",
    "read_clusters",
    "read_probabilities",
    "read_record",
    "read_run",
    "read_truth",
    "tidy_run",
    "unwritable",
    "write_labels",
    "write_record",
]
