from .comparing import bench
from .methods import OURS, PEERS
from .table import print_table

__all__ = [
    "OURS",
    "PEERS",
    "bench",
    "print_table",
]
