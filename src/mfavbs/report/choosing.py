"""Which images of a run its report shows.

In: a run of n images. Out: rows: of each cluster, of what fits nowhere, of copies, of flags.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mfavbs.runs import Run

# 1,200 thumbnails of 3 KB, in base64, are a page of about 5 MB.
TILES = 1200
LEAST_CERTAIN = 24
OUTLIERS = 36
GROUPS = 24  # of copies
IN_A_GROUP = 6
FLAGGED = 12  # images of each flag


@dataclass(frozen=True)
class Chosen:
    """Rows on show; clusters stand in the order of the tree, those of older runs by size.

    `members` has all rows of each cluster, `most` its most typical and `least` its most different
    images; `doubtful` the least sure of all; `copies` groups of them; `flagged` rows by flag, with
    `n_flagged` of all.
    """

    members: dict[int, np.ndarray]
    most: dict[int, list[int]]
    least: dict[int, list[int]]
    doubtful: list[int]
    outliers: list[int]
    copies: list[list[int]]
    n_copies: int
    flagged: dict[str, list[int]]
    n_flagged: dict[str, int]

    def rows(self) -> list[list[int]]:
        """All of those whose picture is shown."""
        return [
            *self.most.values(),
            *self.least.values(),
            self.doubtful,
            self.outliers,
            *self.copies,
            *self.flagged.values(),
        ]


def choose(run: Run, per_cluster: int) -> Chosen:
    """Choose the rows on show.

    Parameters
    ----------
    run
        The run.
    per_cluster
        Images shown of a cluster, at least 1: three quarters are its most typical, the rest those
        that differ most. Above 50 clusters fewer are shown, to keep the page at about 5 MB.
    """
    # Most confident first; a confidence that is no number counts as the least.
    order = np.argsort(-np.nan_to_num(run.confidence, nan=-np.inf), kind="stable")
    order = order[np.argsort(run.cluster[order], kind="stable")]
    found, starts = np.unique(run.cluster[order], return_index=True)
    members = {n: np.empty(0, np.int64) for n in range(run.metrics["n_clusters"])}
    # Of no rows, split makes one empty part.
    members |= dict(zip(found.tolist(), np.split(order, starts[1:])))
    members = {n: members[n] for n in _in_order(run, members)}
    per_cluster = max(1, min(per_cluster, TILES // max(1, len(found))))
    most: dict[int, list[int]] = {}
    least: dict[int, list[int]] = {}
    for number, rows in members.items():
        most[number], least[number] = _of_cluster(run, number, rows, per_cluster)
    n_doubtful = min(LEAST_CERTAIN, math.ceil(len(order) / 4))
    doubtful = np.argsort(np.nan_to_num(run.confidence, nan=-np.inf), kind="stable")
    groups = _groups(run)
    flagged = _flagged(run)
    return Chosen(
        members,
        most,
        least,
        doubtful[:n_doubtful].tolist(),
        _outliers(run),
        [rows[:IN_A_GROUP] for rows in groups[:GROUPS]],
        len(groups),
        {flag: rows[:FLAGGED] for flag, rows in flagged.items()},
        {flag: len(rows) for flag, rows in flagged.items()},
    )


def _in_order(run: Run, members: dict[int, np.ndarray]) -> list[int]:
    """Numbers of clusters as the tree has them, so that like ones are near; the empty ones last."""
    by_size = sorted(members, key=lambda number: (-len(members[number]), number))
    given = (run.hierarchy or {}).get("order")
    listed = [n for n in given if n in members] if isinstance(given, list) else []
    order = list(dict.fromkeys([*listed, *by_size]))
    return sorted(order, key=lambda number: not len(members[number]))


def _of_cluster(
    run: Run, number: int, rows: np.ndarray, per_cluster: int
) -> tuple[list[int], list[int]]:
    """The most typical and the most different; of older runs the most and the least confident."""
    n_least = per_cluster // 4 if len(rows) > per_cluster else 0
    about = _about(run, number)
    typical, different = (
        [row for row in about.get(kind) or [] if 0 <= row < len(run.cluster)]
        for kind in ("typical", "different")
    )
    if not typical:
        return rows[: per_cluster - n_least].tolist(), rows[len(rows) - n_least :].tolist()
    most = typical[: per_cluster - n_least]
    on_show = {*most}
    more = (row for row in rows.tolist() if row not in on_show)
    most += itertools.islice(more, per_cluster - n_least - len(most))
    on_show = {*most}
    return most, [row for row in different if row not in on_show][:n_least]


def _about(run: Run, number: int) -> dict:
    return (run.insight or {}).get("clusters", {}).get(str(number), {})


def _outliers(run: Run) -> list[int]:
    rows = (run.insight or {}).get("outliers", {}).get("rows") or []
    return _rows(run, rows)[:OUTLIERS]


def _rows(run: Run, rows: Iterable[int]) -> list[int]:
    return [row for row in rows if 0 <= row < len(run.cluster)]


def _groups(run: Run) -> list[list[int]]:
    """Groups of copies, the largest first."""
    if run.copies is None:
        return []
    rows = np.flatnonzero(run.copies >= 0)
    rows = rows[np.argsort(run.copies[rows], kind="stable")]
    _, starts = np.unique(run.copies[rows], return_index=True)
    groups = [part.tolist() for part in np.split(rows, starts[1:]) if len(part) > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))


def _flagged(run: Run) -> dict[str, list[int]]:
    """Rows by what is wrong with their picture."""
    found: dict[str, list[int]] = {}
    for row, flags in enumerate(run.flags or ()):
        for flag in flags or ():
            found.setdefault(flag, []).append(row)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))
