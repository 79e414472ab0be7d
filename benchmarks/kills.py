"""Kill every command before each of its file operations, and fill the disk at each.

Command::

    python benchmarks/kills.py
    python benchmarks/kills.py --commands report bench

After each the same command must end with the same answer. Prints for each command how many
operations it has, how many of the cuts it withstood, and what fell. Minutes to an hour.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from interrupting import COMMANDS, Ground, check_cut, cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    parser.add_argument("--every", type=int, default=1, help="every so many operations only")
    args = parser.parse_args()

    table = Table(title="Cut off at a file operation, then the same command again")
    for column in ("command", "operations", "kills withstood", "full disks withstood"):
        table.add_column(column)
    fallen = []
    with tempfile.TemporaryDirectory() as folder:
        ground = Ground(Path(folder))
        out = ground.folder / "out"
        for command in args.commands:
            ground.begin(command, out)
            whole, operations = cut(ground.arguments(command, out), ground.folder, out, None)
            if whole.code != 0:
                raise SystemExit(whole.err)
            answer = ground.answer(command, out)
            places = range(0, len(operations), args.every)
            row = []
            for how in ("kill", "full"):
                good = 0
                for at in track(places, f"{command}, {how}", transient=True):
                    try:
                        check_cut(ground, command, at, how, answer)
                        good += 1
                    except AssertionError as error:
                        fallen.append(f"{operations[at]}: {error}")
                row.append(f"{good} of {len(places)}")
            table.add_row(command, str(len(operations)), *row)
    Console().print(table)
    for text in fallen:
        print(text)


if __name__ == "__main__":
    main()
