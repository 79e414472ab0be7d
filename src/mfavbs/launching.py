"""Started by a launcher of several processes, one of them does the work.

In: the environment's variables. Out: nothing in the first process; the others say so and end.
"""

import os
import sys


def leave_to_first_process() -> None:
    """End this process, with 0, unless it is the first of those that a launcher started.

    Several would train the same, each into the same folder. Ended with anything else than 0, a
    launcher would stop the first as well.
    """
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if rank.isdecimal() and size.isdecimal() and 0 < int(rank) < int(size):
        print(
            f"Process {rank} of {size} (RANK of WORLD_SIZE): mfavbs works in one process, the "
            "first; this one ends.",
            file=sys.stderr,
        )
        raise SystemExit(0)
