"""The command `mfavbs plan`: parses, calls, prints."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    IMAGE_MEMORY,
    AnchorOption,
    AugmentOption,
    CacheOption,
    DeviceOption,
    EncoderOption,
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
    ResolutionOption,
    SeedOption,
    SourceArgument,
    TrainOption,
    ViewsOption,
    WeightsOption,
    WorkersOption,
    checked_objective,
    parsed_number,
    parsed_range,
)
from mfavbs.cli.output import Say, print_json, unless
from mfavbs.cli.words import as_options, flags_of
from mfavbs.files import output_name
from mfavbs.urls import without_secrets

if TYPE_CHECKING:
    from mfavbs.foretelling import Plan


def plan(
    context: typer.Context,
    source: SourceArgument,
    n_clusters: NumberOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder that is planned. Default: mfavbs-NAME in this folder."),
    ] = None,
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
    with_map: MapOption = True,
    cache: CacheOption = None,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what `mfavbs cluster` will take, by a few of the images; nothing is written."""
    checked_objective(objective)
    number = parsed_number(n_clusters)
    if number is None:
        raise typer.BadParameter("give the number of clusters", param_hint="-k")
    say = unless(quiet)
    say(f"Trying a few images of {without_secrets(source)}; nothing is written")
    from mfavbs.planning import plan as make_plan

    made = make_plan(
        source,
        number,
        out=out or Path(f"mfavbs-{output_name(without_secrets(source))}"),
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
        with_map=with_map,
        cache=cache,
        n_workers=n_workers,
        device=device,
        memory=memory,
        objective=objective,
        epochs=epochs,
    )
    _say_plan(made, say, flags_of(context.find_root().command))
    print_json(asdict(made) | {"total": round(made.total, 2)}, as_json)


def _say_plan(made: "Plan", say: Say, flags: Mapping[str, str]) -> None:
    from mfavbs.foretelling import duration, size  # which imports numpy

    say(str(made))
    for name, seconds in made.seconds.items():
        say(f"  {name:20} {duration(seconds) if seconds >= 1 else '<1 s':>14}")
    say(f"  {'memory':20} {size(made.memory):>14} of {size(made.memory_machine)}")
    free = size(made.disk_free)
    say(f"  {'disk meanwhile':20} {size(made.disk_meanwhile):>14} of {free} that are free")
    for sentence in made.advice:
        say(as_options(sentence, flags))
