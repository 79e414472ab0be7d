from .ablations import OURS
from .comparing import bench
from .from_pixels import FROM_PIXELS
from .peers import PEERS
from .suite import bench_suite
from .suite_table import print_suite
from .table import print_table

__all__ = [
    "FROM_PIXELS",
    "OURS",
    "PEERS",
    "bench",
    "bench_suite",
    "print_suite",
    "print_table",
]
