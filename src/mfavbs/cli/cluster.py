"""The commands `mfavbs cluster` and `mfavbs demo`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    IMAGE_MEMORY,
    AnchorOption,
    AugmentOption,
    CacheOption,
    DeviceOption,
    EncoderOption,
    EngineOption,
    EpochsOption,
    ExcludeOption,
    FitOption,
    GridOption,
    ImageMemoryOption,
    ImageSizeOption,
    JsonOption,
    MapOption,
    MemoryOption,
    NumberOption,
    ObjectiveOption,
    QuietOption,
    RangeOption,
    RayAddressOption,
    ResolutionOption,
    SeedOption,
    SourceArgument,
    TrainOption,
    VectorsOption,
    ViewsOption,
    VocabularyOption,
    WeightsOption,
    WorkersOption,
    checked_objective,
    parsed_number,
    parsed_range,
)
from mfavbs.cli.output import Say, report_run, say_changes, unless
from mfavbs.files import output_name
from mfavbs.model import Number
from mfavbs.urls import without_secrets


def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("mfavbs-demo"),
    seed: SeedOption = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cluster 1,797 handwritten digits that come with scikit-learn: no download, a minute."""
    say = unless(quiet)
    say(f"Clustering 1,797 handwritten digits into 10 clusters, in {out}")
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
        verbose=not quiet,
    )
    report_run(run, say, as_json)


def cluster(
    source: SourceArgument,
    n_clusters: NumberOption = None,
    out: Annotated[Path | None, typer.Option(help="Default: mfavbs-NAME in this folder.")] = None,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    train: TrainOption = "frozen",
    resolution: ResolutionOption = None,
    anchor: AnchorOption = True,
    n_views: ViewsOption = 5,
    augment: AugmentOption = "default",
    grid: GridOption = 0,
    exclude: ExcludeOption = None,
    fit: FitOption = None,
    epochs: EpochsOption = None,
    value_range: RangeOption = "type",
    image_memory: ImageMemoryOption = IMAGE_MEMORY,
    seed: SeedOption = 0,
    objective: ObjectiveOption = "disjoint",
    labels_from_folders: Annotated[
        bool, typer.Option("--labels-from-folders", help="Score against the sub-folders' names.")
    ] = False,
    drop_copies: Annotated[
        bool,
        typer.Option("--drop-copies", help="Train on one of each group of copies of an image."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in OUT.")] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Answer what is new with the run in OUT; keep its labels."),
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train the run in OUT anew; keep the clusters' numbers.")
    ] = False,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="An earlier run of some of the images: its clusters' numbers and names go on.",
        ),
    ] = None,
    back: Annotated[
        bool,
        typer.Option("--back", help="Take back the last update of the run SOURCE."),
    ] = False,
    vocabulary: VocabularyOption = None,
    vocabulary_vectors: VectorsOption = None,
    with_map: MapOption = True,
    cache: CacheOption = None,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    engine: EngineOption = "local",
    ray_address: RayAddressOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Group the images of SOURCE into K clusters."""
    if back:
        _go_back(Path(source), unless(quiet), as_json)
        return
    checked_objective(objective)
    out = out or Path(f"mfavbs-{output_name(without_secrets(source))}")
    number = parsed_number(n_clusters)
    if number is None:
        number = _k_of(out, update or refit)
    say = unless(quiet)
    say(f"Clustering {without_secrets(source)} into {_told(number)}, in {out}")
    from mfavbs.clustering import cluster_images

    run = cluster_images(
        source,
        number,
        out=out,
        encoder=encoder or DEFAULT_ENCODER,
        weights=weights,
        image_size=image_size,
        grid=grid,
        fit=fit,
        train=train,
        resolution=resolution,
        anchor=anchor,
        n_views=n_views,
        augment=augment,
        exclude=exclude or (),
        seed=seed,
        value_range=parsed_range(value_range),
        image_memory=image_memory,
        labels_from_folders=labels_from_folders,
        drop_copies=drop_copies,
        overwrite=overwrite,
        update=update,
        refit=refit,
        like=like,
        vocabulary=vocabulary,
        vocabulary_vectors=vocabulary_vectors,
        with_map=with_map,
        cache=cache,
        n_workers=n_workers,
        device=device,
        memory=memory,
        engine=engine,
        ray_address=ray_address,
        verbose=not quiet,
        objective=objective,
        epochs=epochs,
    )
    say_changes(say, run)
    report_run(run, say, as_json)


def _told(number: Number) -> str:
    if isinstance(number, int):
        return f"{number} clusters"
    return "as many clusters as there are" + (
        "" if number == "auto" else f", from {number[0]} to {number[1]}"
    )


def _k_of(out: Path, updates: bool) -> Number:
    """Number of clusters that the run in ``out``, which is to be updated, was asked for."""
    from mfavbs.files import user_path
    from mfavbs.runs import read_record

    if not updates:
        raise typer.BadParameter("give the number of clusters", param_hint="-k")
    return read_record(user_path(out))["parameters"]["n_clusters"]


def _go_back(run: Path, say: Say, as_json: bool) -> None:
    say(f"Going back to the state of {run} before it was last updated")
    from mfavbs.updating import go_back

    report_run(go_back(run), say, as_json)
