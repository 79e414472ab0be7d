"""What a command prints: text for a person on stderr, and one JSON object on stdout.

In: words and numbers. Out: lines with nothing in them that a file name could do to a terminal.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfavbs.progress import say

if TYPE_CHECKING:
    from mfavbs.runs import Run

__all__ = ["say"]

Say = Callable[[str], None]


def unless(quiet: bool) -> Say:
    """:func:`say`; or, where only errors are wanted, what says nothing and lets no warning by."""
    if not quiet:
        return say
    warnings.simplefilter("ignore")
    return lambda text: None


def print_json(content: dict[str, Any], wanted: bool) -> None:
    """One object on stdout, where it was asked for."""
    if wanted:
        print(json.dumps(content))


def counted(count: int, thing: str) -> str:
    """``1 image``, ``1,234 images``."""
    return f"{count:,} {thing}" + "s" * (count != 1)


def say_left_out(
    say: Say, folder: Path, n_failures: int, n_skipped: int, n_warnings: int
) -> dict[str, int]:
    """What the tables in ``folder`` hold, where they hold something; the counts by name."""
    if n_failures:
        say(f"{n_failures:,} could not be read: {folder / 'failures.csv'}")
    if n_skipped:
        say(f"Left out, and why: {folder / 'skipped.csv'} ({counted(n_skipped, 'row')})")
    if n_warnings:
        warned = folder / "warnings.csv"
        say(f"{n_warnings:,} could be read, but not without a warning: {warned}")
    return {"n_failures": n_failures, "n_skipped": n_skipped, "n_warnings": n_warnings}


def say_views(say: Say, nearest: dict[str, Any] | None) -> None:
    """How near the random views of images are to these, see `mfavbs.features.nearest_own`."""
    if nearest:
        share = f"{100 * nearest['share']:.0f} %"
        others = counted(nearest["n_images"] - 1, "other")
        say(f"Random views that are nearer to their own image than to {others}: {share}")


def say_best_epoch(say: Say, run: "Run") -> None:
    """Which epoch of a training from pixels was kept, and by how much."""
    best = run.record.get("best_epoch")
    by_epoch = [epoch.get("criterion") for epoch in run.metrics.get("losses") or ()]
    if best is None or not by_epoch or by_epoch[0] is None:
        return
    last = len(by_epoch) - 1
    say(
        f"Kept: epoch {best} of {last}. Its answer is foretold with an error of "
        f"{by_epoch[best]:.4f}, that of epoch 0, the frozen run's, with {by_epoch[0]:.4f}"
    )


def say_scores(say: Say, rows: dict[str, dict[str, float]]) -> None:
    say(f"{'':10} {'ACC':>6} {'NMI':>6} {'ARI':>6}")
    for name, s in rows.items():
        say(f"{name:10} {s['acc']:6.3f} {s['nmi']:6.3f} {s['ari']:6.3f}")


def say_changes(say: Say, run: "Run") -> None:
    """What changed since the last update, or since the run that this one is numbered like."""
    changes = run.changes
    if not changes:
        return
    images, clusters = changes["images"], changes["clusters"]
    told = ", ".join(f"{images[name]:,} {name}" for name in ("new", "gone", "kept"))
    since = changes.get("like")
    say(f"Images, {f'against the run {since}' if since else 'by the last update'}: {told}")
    for name in ("grown", "split", "merged", "vanished", "new"):
        if clusters[name]:
            say(f"Clusters {name}: {', '.join(map(str, clusters[name]))}")


def report_run(run: "Run", say: Say, as_json: bool) -> None:
    """What a finished run has found, and where it lies."""
    metrics = run.metrics
    found = counted(metrics["n_clusters_found"], "cluster")
    say(f"{counted(metrics['n_images'], 'image')} in {found}")
    counts = say_left_out(
        say, run.folder, metrics["n_failures"], len(run.skipped), metrics.get("n_warnings", 0)
    )
    number = (run.insight or {}).get("k", {})
    if not isinstance(number.get("asked", 0), int):
        say(number["sentence"])
    say_views(say, metrics.get("views_nearest_own"))
    say_best_epoch(say, run)
    if metrics.get("scores"):
        say_scores(say, {"mfavbs": metrics["scores"], **metrics["baselines"]})
    say(f"Clusters: {run.folder / 'labels.csv'}")
    say(f"Report:   {run.folder / 'report.html'}")
    kept = {k: v for k, v in metrics.items() if k != "losses"}
    insight = {k: v for k, v in (run.insight or {}).items() if k not in ("schema", "asked")}
    print_json({"run": str(run.folder), **kept, **counts, "insight": insight}, as_json)
