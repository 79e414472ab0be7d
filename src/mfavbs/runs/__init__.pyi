from .reading import SCHEMA, Run, read_probabilities, read_run, read_truth
from .writing import CHECKPOINT, FEATURES, MODEL, begin_run, unwritable, write_labels, write_record

__all__ = [
    "CHECKPOINT",
    "FEATURES",
    "MODEL",
    "SCHEMA",
    "Run",
    "begin_run",
    "read_probabilities",
    "read_run",
    "read_truth",
    "unwritable",
    "write_labels",
    "write_record",
]
