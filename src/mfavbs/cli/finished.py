"""The commands on a finished run, `predict`, `evaluate` and `report`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import (
    CacheOption,
    DeviceOption,
    EngineOption,
    ExcludeOption,
    JsonOption,
    MemoryOption,
    QuietOption,
    RayAddressOption,
    RunArgument,
    SourceArgument,
    VectorsOption,
    VocabularyOption,
    WeightsOption,
    WorkersOption,
)
from mfavbs.cli.output import (
    counted,
    print_json,
    say_left_out,
    say_scores,
    unless,
)
from mfavbs.files import read_json, read_reasons
from mfavbs.urls import without_secrets


def predict(
    run: RunArgument,
    source: SourceArgument,
    out: Annotated[
        Path | None, typer.Option(help="Default: predictions/NAME in the run folder.")
    ] = None,
    exclude: ExcludeOption = None,
    weights: WeightsOption = None,
    cache: CacheOption = None,
    none_rate: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="So many of the images like the run's get no cluster, and most of the others.",
        ),
    ] = None,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    memory: MemoryOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cluster the new images of SOURCE with a finished run, without training."""
    say = unless(quiet)
    say(f"Clustering {without_secrets(source)} with the run in {run}")
    from mfavbs.prediction import predict_images
    from mfavbs.runs import read_clusters

    folder = predict_images(
        run,
        source,
        out=out,
        exclude=exclude or (),
        weights=weights,
        cache=cache,
        n_workers=n_workers,
        device=device,
        engine=engine,
        ray_address=ray_address,
        memory=memory,
        none_rate=none_rate,
        verbose=not quiet,
    )
    paths, clusters = read_clusters(folder)
    found = len({*clusters.tolist()} - {-1})
    n_in = int((clusters >= 0).sum())
    say(f"{counted(n_in, 'image')} in {found:,} of the run's clusters")
    insight = read_json(folder / "insight.json") or {}
    if "none" in insight:
        say(f"{counted(insight['none']['n'], 'image')} in none of them, with -1 for a cluster")
    tables = ("failures.csv", "skipped.csv", "warnings.csv")
    counts = say_left_out(say, folder, *(len(read_reasons(folder / table)) for table in tables))
    say(f"Clusters of the new images: {folder / 'labels.csv'}")
    labels = {"labels": str(folder / "labels.csv"), "n_images": len(paths)}
    told = {name: insight[name] for name in ("drift", "none") if name in insight}
    print_json(labels | counts | {"insight": told}, as_json)


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder, or a folder of predictions.")
    ],
    truth: Annotated[Path, typer.Option(help="A CSV with the columns path and label.")],
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score a run against known labels: ACC, NMI and ARI."""
    say = unless(quiet)
    say(f"Scoring the run in {run} against {truth}")
    from mfavbs.runs import evaluate_run, read_truth

    scores = evaluate_run(run, read_truth(truth))
    say_scores(say, {"mfavbs": scores})
    if scores["coverage"] < 1:
        say(f"Scored: the {100 * scores['coverage']:.1f} % of the images that have a label.")
    print_json(scores, as_json)


def report(
    run: RunArgument,
    images: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where the images lie now.")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="CLUSTER=NAME",
            help="Call a cluster so from now on; several times for several. No name: as before.",
        ),
    ] = None,
    vocabulary: VocabularyOption = None,
    vocabulary_vectors: VectorsOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run again."""
    say = unless(quiet)
    say(f"Writing the report of the run in {run}")
    from mfavbs.completing import complete_run, name_clusters
    from mfavbs.images import open_images
    from mfavbs.report import write_report

    opened = None if images is None else open_images(images)
    words = {"vocabulary": vocabulary, "vocabulary_vectors": vocabulary_vectors}
    if names:
        name_clusters(run, names)
    lacking = complete_run(run, opened, **words, verbose=not quiet)
    if lacking:
        say(lacking)
    path = write_report(run, opened)
    say(f"Report: {path}")
    print_json({"report": str(path)}, as_json)
