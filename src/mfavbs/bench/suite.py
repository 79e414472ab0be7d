"""`mfavbs bench --suite`: methods on sets of several kinds, in one go that can be interrupted.

In: a suite's file. Out: a folder with ``features/``, ``trials.jsonl`` and the summary of them,
``suite.json`` and ``suite.md``.
"""

from pathlib import Path
from typing import Any

from mfavbs.bench.peers import PEERS
from mfavbs.bench.suite_file import Suite, SuiteEncoder, SuiteMethod, SuiteSet, read_suite
from mfavbs.devices import check_device
from mfavbs.errors import MfavbsError, RunError
from mfavbs.files import holds_only, user_path, write_json, write_whole
from mfavbs.locking import alone_in, check_alone
from mfavbs.progress import Progress
from mfavbs.runs import FEATURES, unwritable

TRIALS = "trials.jsonl"
_LOG = "worker.log"
_OURS = "mfavbs-"  # of the peers these are earlier releases, and no peers to be held against
_PARTS = (FEATURES, TRIALS, _LOG, "suite.json", "suite.md")


def bench_suite(
    file: str | Path,
    *,
    out: str | Path,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    only_summary: bool = False,
    n_workers: int | None = None,
    device: str = "auto",
    verbose: bool = True,
) -> dict[str, Any]:
    """Run what a suite's file asks for and is not in ``out`` yet, and sum it up.

    Parameters
    ----------
    file
        A TOML file of sets, encoders, methods and seeds, as the how-to shows one.
    out
        Folder of features, trials and summary. A trial that it holds, of the same features, k,
        method, parameters and seed, is not run again; one that failed is.
    data, weights
        Folders of the sets and of the encoders' weights, instead of those that the file names.
    only_summary
        Sum up the trials there are, and run none.
    n_workers
        Processes that decode images.
    device
        Of the encoders and of mfavbs; the peers run on the CPU.
    verbose
        Show progress on stderr.

    Returns
    -------
    dict
        What ``suite.json`` holds: of each set and encoder the mean scores of every method
        (``cells``), ``ranks``, NMI ``against_best_peer``, differences ``paired`` with the
        reference, and what is chosen where one group is ``left_out``.

    Raises
    ------
    MfavbsError
        The file cannot be used as it is, or ``out`` holds something else.
    """
    suite = read_suite(file, data, weights)
    out = user_path(out)
    check_device(device)
    if not only_summary:
        _check_folder(out)
        check_alone(out)
    elif not (out / TRIALS).is_file():
        raise RunError(f"{out} holds no {TRIALS}; run the suite first")
    with alone_in(out):
        if not only_summary:
            _run_missing(suite, out, n_workers, device, verbose)
        return _sum_up(suite, user_path(file).name, out)


def _check_folder(out: Path) -> None:
    try:
        if not holds_only(out, _PARTS):
            raise RunError(
                f"{out} exists and is not the folder of a suite, so nothing is written into it. "
                "Give another out=."
            )
    except OSError as error:
        raise unwritable(out, error) from error


def _run_missing(
    suite: Suite, out: Path, n_workers: int | None, device: str, verbose: bool
) -> None:
    """Set after set: features, then every trial of them that is not in the file."""
    from mfavbs.bench import suite_trials as trials
    from mfavbs.bench.methods import parameters_of
    from mfavbs.bench.suite_features import make_cell
    from mfavbs.devices import pick_device

    # Before anything is encoded: a parameter that there is not is said at once.
    parameters = {m.label: parameters_of(m.name, m.parameters) for m in suite.methods}
    place = pick_device(device)
    known = {_key(t): t for t in trials.read_trials(out / TRIALS) if "error" not in t}
    total = len(suite.cells) * sum(len(method.seeds) for method in suite.methods)
    with (
        trials.worker(str(place), out / _LOG) as worker,
        Progress("suite", total, "trials", show=verbose) as progress,
    ):
        for wanted, encoder in suite.cells:
            where = f"{wanted.name}, {encoder.label}"
            progress.advance(0, f"features of {where}", at_once=True)
            options = {"n_workers": n_workers, "device": device, "verbose": False}
            cell = make_cell(suite, wanted, encoder, out / FEATURES, **options)
            for method, seed in ((m, s) for m in suite.methods for s in m.seeds):
                about = _about(suite, wanted, encoder, method, seed) | {
                    "parameters": parameters[method.label],
                    "features": cell.features,
                    "n": len(cell.rows),
                    "k": cell.k,
                }
                if _key(about) not in known:
                    progress.advance(0, f"{method.label}, seed {seed} on {where}", at_once=True)
                    job = {"store": cell.store, "rows": cell.rows, "k": cell.k, "seed": seed}
                    job |= {"name": method.name, "parameters": method.parameters}
                    _add(out, about, cell.labels, worker.run(job), place)
                progress.advance(1, "")


def _about(
    suite: Suite, wanted: SuiteSet, encoder: SuiteEncoder, method: SuiteMethod, seed: int
) -> dict[str, Any]:
    """What a line of the file says of a trial as the suite's file asks for it."""
    return {
        "set": wanted.name,
        "group": wanted.group,
        "encoder": encoder.label,
        "image_size": wanted.image_size,
        "augment": wanted.augment,
        "views": suite.n_views,
        "limit": suite.limit,
        "method": method.label,
        "name": method.name,
        "changed": method.parameters,
        "seed": seed,
    }


def _key(trial: dict[str, Any]) -> tuple:
    """What two trials of one result have in common."""
    names = ("features", "k", "name", "changed", "parameters", "seed")
    return tuple(repr(_sorted(trial.get(name))) for name in names)


def _sorted(value: Any) -> Any:
    return sorted(value.items()) if isinstance(value, dict) else value


def _add(
    out: Path, about: dict[str, Any], labels: list[str], answer: dict[str, Any], place: Any
) -> None:
    from mfavbs import __version__
    from mfavbs.bench.results import machine
    from mfavbs.bench.suite_trials import append_trial, judge

    found = dict(answer)
    if "error" not in found:
        found |= judge(labels, found.pop("clusters"))
    made = {"machine": machine(place), "version": __version__}
    try:
        append_trial(out / TRIALS, about | found | made)
    except OSError as error:
        raise unwritable(out, error) from error


def _sum_up(suite: Suite, name: str, out: Path) -> dict[str, Any]:
    """Write the summary of those trials in the file that the suite asks for."""
    from mfavbs.bench.suite_table import markdown
    from mfavbs.bench.suite_trials import read_trials
    from mfavbs.bench.summary import summarise

    asked = {
        _asked(about): about["method"]
        for wanted, encoder in suite.cells
        for method in suite.methods
        for seed in method.seeds
        for about in [_about(suite, wanted, encoder, method, seed)]
    }
    latest = {_asked(t): t for t in read_trials(out / TRIALS) if _asked(t) in asked}
    groups = {wanted.name: wanted.group for wanted, _ in suite.cells}
    trials = [
        latest[key] | {"method": label, "group": groups[latest[key]["set"]]}
        for key, label in asked.items()
        if key in latest
    ]
    if not trials:
        raise MfavbsError(f"{out / TRIALS} holds no trial of this suite; run it first")
    labels = [method.label for method in suite.methods]
    peers = [m.label for m in suite.methods if m.name in PEERS and not m.name.startswith(_OURS)]
    variants = [m.label for m in suite.methods if m.name not in PEERS]
    summary: dict[str, Any] = {
        "suite": name,
        "limit": suite.limit,
        "views": suite.n_views,
        "n_trials": len(trials),
        "n_missing": len(asked) - len(trials),
        "machines": sorted({trial["machine"] for trial in trials}),
        "versions": sorted({trial["version"] for trial in trials}),
        **summarise(trials, labels, peers, variants, suite.reference),
    }
    try:
        write_json(out / "suite.json", summary)
        write_whole(out / "suite.md", lambda file: file.write(markdown(summary).encode()))
    except OSError as error:
        raise unwritable(out, error) from error
    return summary


def _asked(trial: dict[str, Any]) -> str:
    """What the suite's file asks for in a trial, whatever it calls the method."""
    names = ("set", "encoder", "image_size", "augment", "views", "limit", "name", "changed", "seed")
    return repr([_sorted(trial.get(name)) for name in names])
