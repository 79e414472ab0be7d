"""The command `mfavbs bench`: parses, calls, prints. Nothing heavy is imported up here."""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    TRAININGS,
    AugmentOption,
    DeviceOption,
    EncoderOption,
    GridOption,
    ImageSizeOption,
    JsonOption,
    QuietOption,
    ResolutionOption,
    TrainOption,
    ViewsOption,
    WeightsOption,
    WorkersOption,
)
from mfavbs.cli.output import counted, print_json, unless
from mfavbs.files import output_name

LabelledArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="Images in a sub-folder for each label (a folder or a .tar), a feature store of "
        "such images, or the name of a public data set.",
    ),
]


_OF_SUITES = (
    "suite",
    "summary",
    "out",
    "data",
    "weights",
    "n_workers",
    "device",
    "quiet",
    "as_json",
)


def _method_names(incomplete: str) -> list[str]:
    """Completion of the last name of a list, ``kmeans,um`` to ``kmeans,umap``."""
    from mfavbs.bench import FROM_PIXELS, OURS, PEERS

    before, comma, last = incomplete.rpartition(",")
    names = [*OURS, *PEERS, *FROM_PIXELS]
    return [before + comma + name for name in names if name.startswith(last)]


MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...",
        help="Names of methods. Default: mfavbs and its peers.",
        autocompletion=_method_names,
    ),
]


def bench(
    context: typer.Context,
    source: LabelledArgument = None,
    suite: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of SOURCE: a TOML file of sets, encoders, methods and seeds.",
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Of a suite: sum up what was run, and run nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Default: bench-NAME in this folder.")] = None,
    methods: MethodsOption = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="The methods of others, beside mfavbs.")
    ] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Add mfavbs with one thing changed at a time.")
    ] = False,
    seeds: Annotated[
        str, typer.Option(metavar="N|A,B,...", help="How many (3: 0, 1, 2), or which: 0,5,7.")
    ] = "3",
    n_clusters: Annotated[
        int | None, typer.Option("-k", "--n-clusters", help="Default: the number of labels.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder where the public data set lies, or those of a suite."),
    ] = None,
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    n_views: ViewsOption = 5,
    augment: AugmentOption = "default",
    grid: GridOption = 0,
    train: TrainOption = "frozen",
    resolution: ResolutionOption = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Of the methods that train from pixels.")
    ] = None,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare mfavbs with its ablations and its peers on labelled images, as a table.

    With `--suite FILE` on many sets at once; `--data` and `--weights` are then the folders that
    the file's paths begin at, and everything else stands in the file.
    """
    if (source is None) == (suite is None):
        raise typer.BadParameter("give either a SOURCE or --suite FILE")
    if suite is not None:
        _refuse_all_but(context)
        out = out or Path(f"bench-{output_name(suite)}")
        if len(weights or []) > 1:
            raise typer.BadParameter("--weights of a suite is one folder of all of them")
        folder = weights[0] if weights else None
        _bench_suite(suite, out, data, folder, summary, n_workers, device, quiet, as_json)
        return
    if summary:
        raise typer.BadParameter("--summary is of a suite: give --suite FILE")
    assert source is not None
    from mfavbs.bench import FROM_PIXELS, OURS, PEERS

    names = [name.strip() for word in methods or [] for name in word.split(",") if name.strip()]
    from_pixels = train == "end-to-end"
    if train not in TRAININGS:
        raise typer.BadParameter(f"{train!r} is not frozen or end-to-end", param_hint="--train")
    if peers and not names:
        names = ["mfavbs"]
    names += [*PEERS] * peers + [*(FROM_PIXELS if from_pixels else OURS)] * ablations
    names = names or ["mfavbs", *(["end-to-end", "vtcc"] if from_pixels else PEERS)]
    numbers = _seeds(seeds)
    out = out or Path(f"bench-{output_name(source)}")
    say = unless(quiet)
    asked = f"{counted(len(names), 'method')} on {source}, with {counted(len(numbers), 'seed')}"
    say(f"Comparing {asked} each, in {out}")
    from mfavbs.bench import bench as run
    from mfavbs.bench import print_table

    found = run(
        source,
        names,
        out=out,
        seeds=numbers,
        n_clusters=n_clusters,
        data=data,
        encoder=encoder or DEFAULT_ENCODER,
        weights=weights,
        image_size=image_size,
        grid=grid,
        n_views=n_views,
        augment=augment,
        resolution=resolution or 64,
        epochs=epochs,
        n_workers=n_workers,
        device=device,
        verbose=not quiet,
    )
    if not quiet:
        print_table(found)
    print_json(found, as_json)
    if not any(row["n_seeds"] for row in found["rows"]):
        raise typer.Exit(1)


def _refuse_all_but(context: typer.Context) -> None:
    """A suite's file says the rest: an option that would change nothing is an error."""
    for name in context.params:
        given = context.get_parameter_source(name)
        if name not in _OF_SUITES and given is not None and given.name == "COMMANDLINE":
            raise typer.BadParameter(f"--{name.replace('_', '-')} stands in the file of a suite")


def _bench_suite(
    suite: Path,
    out: Path,
    data: Path | None,
    weights: Path | None,
    only_summary: bool,
    n_workers: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    unless(quiet)(f"Comparing by {suite}, in {out}")
    from mfavbs.bench import bench_suite, print_suite

    found = bench_suite(
        suite,
        out=out,
        data=data,
        weights=weights,
        only_summary=only_summary,
        n_workers=n_workers,
        device=device,
        verbose=not quiet,
    )
    if not quiet:
        print_suite(found)
    print_json(found, as_json)
    if not found["cells"]:
        raise typer.Exit(1)


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        numbers = []
    seeds = numbers if "," in text else [seed for n in numbers for seed in range(n)]
    if not seeds or min(seeds) < 0:
        raise typer.BadParameter(
            f"{text!r} is not a number of seeds, as 3, nor a list of them, as 0,5,7",
            param_hint="--seeds",
        )
    return list(dict.fromkeys(seeds))
