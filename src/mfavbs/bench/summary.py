"""What the trials of a suite say, over all sets and on each.

In: trials, each with the set, its group, the encoder, the method's label, a seed and NMI and ACC.
Out: for each set and encoder the mean scores of each method; over all of them the mean rank, NMI
against the best peer, paired differences, and what is chosen where one group is left out.

Sets of one group count as one wherever it is averaged over sets: the mean of each group comes
first, over its sets and encoders.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scipy.stats import rankdata

Cell = tuple[str, str]  # name of the set, label of the encoder
Scores = dict[Cell, dict[str, dict[int, float]]]  # NMI by cell, method and seed


def summarise(
    trials: Sequence[dict[str, Any]],
    methods: Sequence[str],
    peers: Collection[str],
    variants: Sequence[str],
    reference: str,
) -> dict[str, Any]:
    """The summary of a suite, as ``suite.json`` holds it.

    Parameters
    ----------
    trials
        Those that count, one for each set, encoder, method and seed; one with ``error`` has failed.
    methods
        Labels, in the order of the table.
    peers
        Labels of the methods of others, the best of which on a set is what NMI is held against.
    variants
        Labels among which is chosen where a group is left out.
    reference
        Label of the method that the others are paired with.
    """
    done = [trial for trial in trials if "error" not in trial]
    nmi: Scores = {}
    group_of: dict[Cell, str] = {}
    for trial in done:
        cell = (trial["set"], trial["encoder"])
        group_of[cell] = trial["group"]
        nmi.setdefault(cell, {}).setdefault(trial["method"], {})[trial["seed"]] = trial["scores"][
            "nmi"
        ]
    return {
        "cells": [_cell(cell, group_of[cell], done, methods) for cell in nmi],
        "ranks": mean_ranks(nmi, methods, group_of),
        "against_best_peer": [
            against_best_peer(nmi, method, peers, group_of) for method in methods
        ],
        "paired": [
            paired(nmi, method, reference, group_of) for method in methods if method != reference
        ],
        "left_out": leave_one_group_out(nmi, variants, group_of),
        "failed": [
            {key: trial[key] for key in ("set", "encoder", "method", "seed", "error")}
            for trial in trials
            if "error" in trial
        ],
    }


def _cell(
    cell: Cell, group: str, done: Sequence[dict[str, Any]], methods: Sequence[str]
) -> dict[str, Any]:
    mine = [trial for trial in done if (trial["set"], trial["encoder"]) == cell]
    rows = []
    for method in methods:
        own = [trial for trial in mine if trial["method"] == method]
        row: dict[str, Any] = {"method": method, "n_seeds": len(own)}
        for name in ("nmi", "acc", "ari"):
            values = [trial["scores"][name] for trial in own]
            row[name] = statistics.fmean(values) if values else None
            row[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
        row["seconds"] = statistics.fmean(t["seconds"] for t in own) if own else None
        row["collapsed"] = [trial["seed"] for trial in own if trial["collapsed"]]
        rows.append(row)
    about = {"set": cell[0], "encoder": cell[1], "group": group}
    return about | {"n": mine[0]["n"], "k": mine[0]["k"], "rows": rows}


def mean_ranks(nmi: Scores, methods: Sequence[str], group_of: Mapping[Cell, str]) -> dict[str, Any]:
    """Mean rank of each method by mean NMI, 1 the best; equal ones share the mean of their ranks.

    Methods without a trial anywhere are left out, and then the sets that not all others were run
    on, of which ``missing`` tells.
    """
    ranked = [method for method in methods if any(method in found for found in nmi.values())]
    complete = [cell for cell, found in nmi.items() if all(method in found for method in ranked)]
    ranks: dict[str, dict[Cell, float]] = {method: {} for method in ranked}
    for cell in complete:
        # To 9 digits: means that differ by round-off alone are a tie.
        means = [-round(_mean(nmi[cell][method]), 9) for method in ranked]
        for method, rank in zip(ranked, rankdata(means), strict=True):
            ranks[method][cell] = float(rank)
    return {
        "n_cells": len(complete),
        "mean_rank": {m: by_group(ranks[m], group_of)[0] for m in ranked if complete},
        "missing": {
            method: [list(cell) for cell, found in nmi.items() if method not in found]
            for method in methods
            if any(method not in found for found in nmi.values())
        },
    }


def against_best_peer(
    nmi: Scores, method: str, peers: Collection[str], group_of: Mapping[Cell, str]
) -> dict[str, Any]:
    """NMI of a method less that of the best peer on each set, which is the one of highest mean.

    Returns
    -------
    dict
        ``mean`` over groups, ``worst_set`` with the ``difference`` and the standard error of its
        seeds' paired differences (None of one seed), ``worst_seed`` against the peer's mean.
    """
    mean: dict[Cell, float] = {}
    error: dict[Cell, float | None] = {}
    seeds: list[tuple[float, Cell, int]] = []
    for cell, found in nmi.items():
        others = [peer for peer in peers if peer in found]
        if method not in found or not others:
            continue
        best = max(others, key=lambda peer: _mean(found[peer]))
        level = _mean(found[best])
        mean[cell] = _mean(found[method]) - level
        error[cell] = _standard_error(_differences(found[method], found[best]))
        seeds += [(value - level, cell, seed) for seed, value in found[method].items()]
    if not mean:
        return {"method": method, "mean": None, "worst_set": None, "worst_seed": None}
    worst = min(mean, key=lambda cell: mean[cell])
    lowest, cell, seed = min(seeds)
    return {
        "method": method,
        "mean": by_group(mean, group_of)[0],
        "worst_set": {"cell": list(worst), "difference": mean[worst], "error": error[worst]},
        "worst_seed": {"cell": list(cell), "seed": seed, "difference": lowest},
    }


def paired(
    nmi: Scores, method: str, reference: str, group_of: Mapping[Cell, str]
) -> dict[str, Any]:
    """Mean NMI of a method less that of another, over the same sets, encoders and seeds.

    The standard error is that of the mean of the groups, None where there is one.
    """
    found: dict[Cell, float] = {}
    for cell, scores in nmi.items():
        differences = _differences(scores.get(method, {}), scores.get(reference, {}))
        if differences:
            found[cell] = statistics.fmean(differences)
    mean, error, groups = by_group(found, group_of)
    return {
        "method": method,
        "reference": reference,
        "difference": mean,
        "error": error,
        "groups": groups,
        "n_cells": len(found),
        "worst": min(((d, *cell) for cell, d in found.items()), default=None),
    }


def leave_one_group_out(
    nmi: Scores, variants: Sequence[str], group_of: Mapping[Cell, str]
) -> dict[str, Any] | None:
    """For each group the variant that the others choose, and what it scores on the one left out.

    They choose the highest mean NMI of their groups; of equal ones the first. Only sets are looked
    at that every variant was run on. None where there are fewer than two variants or groups.
    """
    variants = [variant for variant in variants if any(variant in found for found in nmi.values())]
    cells = [cell for cell, found in nmi.items() if all(v in found for v in variants)]
    means = {
        variant: by_group({cell: _mean(nmi[cell][variant]) for cell in cells}, group_of)[2]
        for variant in variants
    }
    groups = list(dict.fromkeys(group_of[cell] for cell in cells))
    if len(variants) < 2 or len(groups) < 2:
        return None
    rows: list[dict[str, Any]] = []
    for group in groups:
        others = [other for other in groups if other != group]
        level = {
            variant: round(statistics.fmean(means[variant][other] for other in others), 9)
            for variant in variants
        }
        best = max(level.values())
        chosen = [variant for variant in variants if level[variant] == best]
        rows.append(
            {
                "group": group,
                "chosen": chosen[0],
                "tied": chosen[1:],
                "nmi": means[chosen[0]][group],
                "fixed": {variant: means[variant][group] for variant in variants},
            }
        )
    return {
        "rows": rows,
        "nmi": statistics.fmean(row["nmi"] for row in rows),
        "fixed": {v: statistics.fmean(row["fixed"][v] for row in rows) for v in variants},
        "left_out_cells": [list(cell) for cell in nmi if cell not in cells],
    }


def by_group(
    values: Mapping[Cell, float], group_of: Mapping[Cell, str]
) -> tuple[float | None, float | None, dict[str, float]]:
    """Mean of the groups' means, its standard error, and these means."""
    groups: dict[str, list[float]] = {}
    for cell, value in values.items():
        groups.setdefault(group_of[cell], []).append(value)
    means = {group: statistics.fmean(found) for group, found in groups.items()}
    if not means:
        return None, None, means
    return statistics.fmean(means.values()), _standard_error(list(means.values())), means


def _mean(by_seed: Mapping[int, float]) -> float:
    return statistics.fmean(by_seed.values())


def _differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    return [one[seed] - other[seed] for seed in one if seed in other]


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
