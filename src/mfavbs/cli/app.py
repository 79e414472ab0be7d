"""The command line: parses, calls, prints.

In: arguments. Out: text for a person on stderr; with ``--json`` one object on stdout.
"""

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# Nothing heavy is imported up here: `mfavbs --help` answers in a fraction of a second.
from mfavbs import __version__
from mfavbs.cli.bench import bench
from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    DeviceOption,
    EncoderOption,
    GridOption,
    ImageSizeOption,
    JsonOption,
    RunArgument,
    SeedOption,
    SourceArgument,
    ViewsOption,
    WeightsOption,
    WorkersOption,
)
from mfavbs.errors import MfavbsError

if TYPE_CHECKING:
    from mfavbs.runs import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Cluster images without labels.",
    epilog="Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted.",
)

_INTERRUPTED = 130  # what typer makes of Ctrl-C


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of every command; ``--debug`` itself is read by :func:`main`."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("mfavbs-demo"),
    seed: SeedOption = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the run in OUT.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Cluster 1,797 handwritten digits that come with scikit-learn: no download, a minute."""
    from sklearn.datasets import load_digits

    from mfavbs.clustering import cluster_images

    digits = load_digits()
    run = cluster_images(
        (digits.images * (255 / 16)).round().astype("uint8"),
        10,
        out=out,
        encoder="pixels",
        image_size=8,
        seed=seed,
        labels=digits.target.astype(str).tolist(),
        overwrite=overwrite,
    )
    _report_run(run, as_json)


@app.command()
def cluster(
    source: SourceArgument,
    n_clusters: Annotated[int, typer.Option("-k", "--n-clusters", help="Clusters, 2 or more.")],
    out: Annotated[Path | None, typer.Option(help="Default: mfavbs-NAME in this folder.")] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    views: ViewsOption = 5,
    grid: GridOption = 0,
    epochs: Annotated[int | None, typer.Option(help="Default: by the number of images.")] = None,
    seed: SeedOption = 0,
    objective: Annotated[
        str, typer.Option(help="disjoint, or paper: the method as arXiv 2511.08883 has it.")
    ] = "disjoint",
    labels_from_folders: Annotated[
        bool, typer.Option("--labels-from-folders", help="Score against the sub-folders' names.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Group the images of SOURCE into K clusters."""
    if objective not in ("disjoint", "paper"):
        raise typer.BadParameter(f"{objective!r} is not disjoint or paper", param_hint="objective")
    from mfavbs.clustering import cluster_images

    run = cluster_images(
        source,
        n_clusters,
        out=out or Path(f"mfavbs-{source.resolve().name.split('.')[0]}"),
        encoder=encoder,
        weights=weights,
        image_size=image_size,
        grid=grid,
        n_views=views,
        seed=seed,
        labels_from_folders=labels_from_folders,
        overwrite=overwrite,
        n_workers=workers,
        device=device,
        objective=objective,
        epochs=epochs,
    )
    _report_run(run, as_json)


@app.command()
def embed(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(metavar="STORE", help="Folder of the feature store.")],
    encoder: EncoderOption = DEFAULT_ENCODER,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    views: ViewsOption = 5,
    grid: GridOption = 0,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Encode the images of SOURCE once, for `mfavbs cluster STORE`."""
    from mfavbs.encoders import load_encoder
    from mfavbs.features import embed as embed_images
    from mfavbs.images import open_images

    store = embed_images(
        open_images(source),
        out,
        load_encoder(encoder, weights=weights, image_size=image_size, grid=grid),
        n_views=views,
        seed=seed,
        device=device,
        n_workers=workers,
    )
    n, v, t, d = store.features.shape
    _say(f"{n:,} images, {v} views of {t} tokens of width {d}: {store.path}")
    _say_failures(len(store.failures), store.path / "failures.csv")
    if as_json:
        print(json.dumps({"store": str(out), "shape": [n, v, t, d]}))


@app.command()
def predict(
    run: RunArgument,
    source: SourceArgument,
    out: Annotated[
        Path | None, typer.Option(help="Default: predictions/NAME in the run folder.")
    ] = None,
    weights: WeightsOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Cluster the new images of SOURCE with a finished run, without training."""
    from mfavbs.prediction import predict_images

    folder = predict_images(run, source, out=out, weights=weights, n_workers=workers, device=device)
    _say(f"Clusters of the new images: {folder / 'labels.csv'}")
    if as_json:
        print(json.dumps({"labels": str(folder / "labels.csv")}))


@app.command()
def evaluate(
    run: RunArgument,
    truth: Annotated[Path, typer.Option(help="A CSV with the columns path and label.")],
    as_json: JsonOption = False,
) -> None:
    """Score a run against known labels: ACC, NMI and ARI."""
    from mfavbs.prediction import evaluate_run
    from mfavbs.runs import read_truth

    scores = evaluate_run(run, read_truth(truth))
    _say_scores({"mfavbs": scores})
    if as_json:
        print(json.dumps(scores))


@app.command()
def report(run: RunArgument, as_json: JsonOption = False) -> None:
    """Write the report of a run again."""
    from mfavbs.report import write_report

    path = write_report(run)
    _say(f"Report: {path}")
    if as_json:
        print(json.dumps({"report": str(path)}))


app.command()(bench)


def main() -> None:
    """Entry point: every failure a user can cause ends in one line and an exit code."""
    debug = "--debug" in sys.argv
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]  # wherever it stands
    warnings.showwarning = _show_warning
    try:
        app()
    except MfavbsError as error:
        _fail(str(error), debug)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _say("Interrupted. What is finished is kept: the same command goes on from there.")
        raise
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}\nRun again with --debug for the traceback.", debug)


def _fail(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    _say(f"Error: {message}")
    sys.exit(1)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    _say(f"Warning: {message}")


def _say(text: str) -> None:
    """For a person: on stderr, with nothing that a file name could do to a terminal."""
    safe = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    print(safe, file=sys.stderr)


def _say_failures(count: int, path: Path) -> None:
    if count:
        _say(f"{count:,} could not be read: {path}")


def _say_scores(rows: dict[str, dict[str, float]]) -> None:
    _say(f"{'':10} {'ACC':>6} {'NMI':>6} {'ARI':>6}")
    for name, s in rows.items():
        _say(f"{name:10} {s['acc']:6.3f} {s['nmi']:6.3f} {s['ari']:6.3f}")


def _report_run(run: "Run", as_json: bool) -> None:
    metrics = run.metrics
    _say(f"{metrics['n_images']:,} images in {metrics['n_clusters_found']} clusters")
    _say_failures(metrics["n_failures"], run.folder / "failures.csv")
    if metrics.get("scores"):
        _say_scores({"mfavbs": metrics["scores"], **metrics["baselines"]})
    _say(f"Clusters: {run.folder / 'labels.csv'}")
    _say(f"Report:   {run.folder / 'report.html'}")
    if as_json:
        kept = {k: v for k, v in metrics.items() if k != "losses"}
        print(json.dumps({"run": str(run.folder), **kept}))
