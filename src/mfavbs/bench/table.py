"""What a bench has found, as a table: on the terminal, as JSON, as CSV, as Markdown.

In: for each method, the results of its seeds. Out: one row for each method, in three files.
"""

import csv
import html
import io
import statistics
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mfavbs.files import write_json, write_whole

SCORES = ("acc", "nmi", "ari", "purity")


def row_of(method: str, results: list[dict[str, Any]], error: str | None) -> dict[str, Any]:
    """Mean and sample standard deviation of the seeds' scores, None where there are too few."""
    row: dict[str, Any] = {"method": method, "n_seeds": len(results)}
    for name in SCORES:
        values = [result["scores"][name] for result in results]
        row[f"{name}_mean"] = statistics.fmean(values) if values else None
        row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    row["acc_worst"] = min((r["scores"]["acc"] for r in results), default=None)
    seconds = [result["seconds"] for result in results]
    row["seconds"] = statistics.fmean(seconds) if seconds else None
    row["peak_memory_mib"] = max((r["peak_memory_mib"] for r in results), default=None)
    row["error"] = error
    return row


def write_tables(folder: Path, summary: dict[str, Any]) -> None:
    """Write bench.json, bench.csv and bench.md into ``folder``."""
    write_json(folder / "bench.json", summary)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(summary["rows"][0]))
    writer.writeheader()
    writer.writerows(summary["rows"])
    write_whole(folder / "bench.csv", lambda file: file.write(text.getvalue().encode()))
    write_whole(folder / "bench.md", lambda file: file.write(markdown(summary).encode()))


def print_table(summary: dict[str, Any]) -> None:
    """Print the table on stderr."""
    header, *rows = _cells(summary)
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)  # fits into 80 columns
    for name in header:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(stderr=True)
    console.print(table)
    for line in _notes(summary):
        console.print(Text(line), soft_wrap=True)


def markdown(summary: dict[str, Any]) -> str:
    """The table as it goes into a README, with what it is of and where it was measured."""
    header, *rows = _cells(summary)
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
    notes = [html.escape(line, quote=False) for line in _notes(summary)]
    return "\n".join([*lines, "", *notes]) + "\n"


def _notes(summary: dict[str, Any]) -> list[str]:
    """What the table is of, where it was measured, and what is not in it."""
    n, v, t, d = summary["shape"]
    unread = f" ({summary['n_failures']:,} more could not be read)" if summary["n_failures"] else ""
    lines = [
        f"{summary['source']}: {n:,} images{unread}, {summary['n_labels']} labels, "
        f"k = {summary['n_clusters']}; features of {summary['features']['encoder']}, "
        f"views: {v}, tokens: {t}, width: {d}.",
        f"Mean ± standard deviation over the seeds {', '.join(map(str, summary['seeds']))}; "
        "s: seconds of clustering alone, the peers' on the CPU; "
        "MiB: peak memory of its whole process.",
        *(f"Measured on {machine}." for machine in summary["machines"]),
        *(f"{r['method']} failed: {r['error']}" for r in summary["rows"] if r["error"]),
    ]
    # In one line each, with nothing that a name could do to a terminal.
    return ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in line) for line in lines]


def _cells(summary: dict[str, Any]) -> list[list[str]]:
    """Header and rows; purity says something new only where k is not the number of labels."""
    shown = SCORES if summary["n_clusters"] != summary["n_labels"] else SCORES[:3]
    first, *others = [name if name == "purity" else name.upper() for name in shown]
    cells = [["method", first, "worst", *others, "s", "MiB"]]
    for row in summary["rows"]:
        n_seeds = len(summary["seeds"])
        short = f" ({row['n_seeds']} of {n_seeds})" if row["n_seeds"] < n_seeds else ""
        acc, *rest = [_score(row[f"{s}_mean"], row[f"{s}_sd"]) for s in shown]
        seconds, memory = _number(row["seconds"], ".1f"), _number(row["peak_memory_mib"], ",.0f")
        cells.append(
            [row["method"] + short, acc, _number(row["acc_worst"], ".3f"), *rest, seconds, memory]
        )
    return cells


def _score(mean: float | None, sd: float | None) -> str:
    return _number(mean, ".3f") + ("" if sd is None else f" ± {sd:.3f}")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
