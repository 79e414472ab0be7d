from .ablations import OURS
from .comparing import bench
from .peers import PEERS
from .table import print_table

__all__ = [
    "OURS",
    "PEERS",
    "bench",
    "print_table",
]
