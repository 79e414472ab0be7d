"""The command `mfavbs bench`: parses, calls, prints. Nothing heavy is imported up here."""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    AugmentOption,
    DeviceOption,
    EncoderOption,
    GridOption,
    ImageSizeOption,
    JsonOption,
    QuietOption,
    ViewsOption,
    WeightsOption,
    WorkersOption,
)
from mfavbs.cli.output import counted, print_json, unless
from mfavbs.files import output_name

LabelledArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Images in a sub-folder for each label (a folder or a .tar), a feature store of "
        "such images, or the name of a public data set.",
    ),
]


def _method_names(incomplete: str) -> list[str]:
    """Completion of the last name of a list, ``kmeans,um`` to ``kmeans,umap``."""
    from mfavbs.bench import OURS, PEERS

    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in [*OURS, *PEERS] if name.startswith(last)]


MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...",
        help="Names of methods. Default: mfavbs and its peers.",
        autocompletion=_method_names,
    ),
]


def bench(
    source: LabelledArgument,
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
    data: Annotated[Path, typer.Option(help="Folder where the public data set lies.")] = Path("."),
    encoder: EncoderOption = None,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    n_views: ViewsOption = 5,
    augment: AugmentOption = "default",
    grid: GridOption = 0,
    n_workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare mfavbs with its ablations and its peers on labelled images, as a table."""
    from mfavbs.bench import OURS, PEERS

    names = [name.strip() for word in methods or [] for name in word.split(",") if name.strip()]
    if peers and not names:
        names = ["mfavbs"]
    names += [*PEERS] * peers + [*OURS] * ablations
    names = names or ["mfavbs", *PEERS]
    numbers = _seeds(seeds)
    out = out or Path(f"bench-{output_name(source)}")
    say = unless(quiet)
    asked = f"{counted(len(names), 'method')} on {source}, with {counted(len(numbers), 'seed')}"
    say(f"Comparing {asked} each, in {out}")
    from mfavbs.bench import bench as run
    from mfavbs.bench import print_table

    summary = run(
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
        n_workers=n_workers,
        device=device,
        verbose=not quiet,
    )
    if not quiet:
        print_table(summary)
    print_json(summary, as_json)
    if not any(row["n_seeds"] for row in summary["rows"]):
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
