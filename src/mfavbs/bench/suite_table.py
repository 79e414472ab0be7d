"""The summary of a suite as tables: on the terminal and as Markdown.

In: what :func:`mfavbs.bench.summary.summarise` found. Out: the same for a person.
"""

import html
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

Part = tuple[str, list[list[str]], list[str]]  # a title, header and rows, sentences below


def print_suite(summary: dict[str, Any]) -> None:
    """Print the tables on stderr."""
    console = Console(stderr=True)
    for title, (header, *rows), notes in _parts(summary):
        console.print(Text(_safe(title)), soft_wrap=True)
        table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
        for i, name in enumerate(header):
            table.add_column(Text(_safe(name)), justify="right" if i else "left")
        for row in rows:
            table.add_row(*(Text(_safe(cell)) for cell in row))
        console.print(table)
        for note in notes:
            console.print(Text(_safe(note)), soft_wrap=True)
        console.print()


def markdown(summary: dict[str, Any]) -> str:
    """The same as it goes into a document."""
    lines = []
    for title, (header, *rows), notes in _parts(summary):
        rule = ["---", *["---:"] * (len(header) - 1)]
        lines += [f"**{_plain(title)}**", ""]
        lines += ["| " + " | ".join(map(_plain, row)) + " |" for row in (header, rule, *rows)]
        lines += ["", *(_plain(note) + "\n" for note in notes)]
    return "\n".join(lines).rstrip() + "\n"


def _parts(summary: dict[str, Any]) -> Iterator[Part]:
    for cell in summary["cells"]:
        yield _cell(cell)
    yield _overall(summary)
    if any(row["worst_set"] for row in summary["against_best_peer"]):
        yield _worst(summary["against_best_peer"])
    if summary["left_out"]:
        yield _left_out(summary["left_out"])


def _cell(cell: dict[str, Any]) -> Part:
    table = [["method", "NMI", "ACC", "ARI", "s", "seeds"]]
    notes = []
    for row in cell["rows"]:
        scores = [_spread(row[name], row[f"{name}_sd"]) for name in ("nmi", "acc", "ari")]
        table.append([row["method"], *scores, _number(row["seconds"], ".1f"), str(row["n_seeds"])])
        if row["collapsed"]:
            seeds = ", ".join(map(str, row["collapsed"]))
            notes.append(
                f"{row['method']} collapsed, with fewer than half as many clusters as there are "
                f"classes (exp of the entropy of their sizes): seed {seeds}."
            )
    title = f"{cell['set']} ({cell['group']}), {cell['encoder']}: "
    return title + f"{cell['n']:,} images, k = {cell['k']}", table, notes


def _overall(summary: dict[str, Any]) -> Part:
    ranks = summary["ranks"]
    pairs = {row["method"]: row for row in summary["paired"]}
    reference = summary["paired"][0]["reference"] if summary["paired"] else None
    table = [["method", "rank", "NMI - best peer"] + [f"NMI - {reference}"] * bool(reference)]
    for row in summary["against_best_peer"]:
        method = row["method"]
        cells = [_number(ranks["mean_rank"].get(method), ".2f"), _signed(row["mean"])]
        if reference:
            pair = pairs.get(method)
            cells.append(_spread_signed(pair["difference"], pair["error"]) if pair else "")
        table.append([method, *cells])
    notes = [
        "Above, mean ± standard deviation over seeds; here, mean ± standard error of the groups' "
        "paired differences: sets of one group count as one, and group means come first. The best "
        "peer is the one of highest mean NMI on a set.",
        f"Ranks over {ranks['n_cells']} of {len(summary['cells'])} pairs of a set and an encoder, "
        "those that every ranked method was run on; ties share the mean rank.",
    ]
    for method, cells in ranks["missing"].items():
        where = ", ".join(" / ".join(cell) for cell in cells)
        notes.append(f"{method} has no result on {where}.")
    for trial in summary["failed"]:
        where = f"{trial['set']} / {trial['encoder']}, seed {trial['seed']}"
        notes.append(f"{trial['method']} failed on {where}: {trial['error']}")
    if summary["n_missing"]:
        notes.append(f"{summary['n_missing']:,} trials of the suite have not been run yet.")
    notes += [f"Measured on {machine}." for machine in summary["machines"]]
    return "All sets", table, notes


def _left_out(found: dict[str, Any]) -> Part:
    variants = list(found["fixed"])
    table = [["group left out", "chosen by the others", "NMI", *variants]]
    notes = ["NMI of what the other groups choose, beside that of each variant held fixed."]
    for row in found["rows"]:
        fixed = [_number(row["fixed"][variant], ".3f") for variant in variants]
        table.append([row["group"], row["chosen"], _number(row["nmi"], ".3f"), *fixed])
        if row["tied"]:
            tied = ", ".join(row["tied"])
            notes.append(f"Without {row['group']}, {row['chosen']} ties with {tied}.")
    fixed = [_number(found["fixed"][variant], ".3f") for variant in variants]
    table.append(["mean", "", _number(found["nmi"], ".3f"), *fixed])
    if found["left_out_cells"]:
        where = ", ".join(" / ".join(cell) for cell in found["left_out_cells"])
        notes.append(f"Not every variant was run on {where}, which therefore does not count here.")
    return "Leave one group out", table, notes


def _worst(rows: list[dict[str, Any]]) -> Part:
    table = [["method", "worst set", "", "worst seed", ""]]
    for row in rows:
        place, seed = row["worst_set"], row["worst_seed"]
        if place is not None:
            cells = [_spread_signed(place["difference"], place["error"]), " / ".join(place["cell"])]
            cells += [_signed(seed["difference"]), f"{seed['cell'][0]}, {seed['seed']}"]
            table.append([row["method"], *cells])
    note = "± is the standard error of the paired differences of that set's seeds."
    return "NMI less that of the best peer, at worst", table, [note]


def _spread(mean: float | None, sd: float | None) -> str:
    return _number(mean, ".3f") + ("" if sd is None else f" ± {sd:.3f}")


def _spread_signed(mean: float | None, error: float | None) -> str:
    return _signed(mean) + ("" if error is None else f" ± {error:.3f}")


def _signed(value: float | None) -> str:
    return _number(value, "+.3f")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _safe(text: str) -> str:
    """In one line, with nothing that a name could do to a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _plain(text: str) -> str:
    return html.escape(_safe(text), quote=False).replace("|", "\\|")
