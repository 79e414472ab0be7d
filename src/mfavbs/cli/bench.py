"""The command `mfavbs bench`: parses, calls, prints. Nothing heavy is imported up here."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import (
    DEFAULT_ENCODER,
    DeviceOption,
    EncoderOption,
    GridOption,
    ImageSizeOption,
    JsonOption,
    ViewsOption,
    WeightsOption,
    WorkersOption,
)

LabelledArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Images in a sub-folder for each label (a folder or a .tar), a feature store of "
        "such images, or the name of a public data set.",
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME,...", help="Names of methods. Default: mfavbs and its peers."),
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
    encoder: EncoderOption = DEFAULT_ENCODER,
    weights: WeightsOption = None,
    image_size: ImageSizeOption = None,
    views: ViewsOption = 5,
    grid: GridOption = 0,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare mfavbs with its ablations and its peers on labelled images, as a table."""
    from mfavbs.bench import OURS, PEERS, print_table
    from mfavbs.bench import bench as run

    names = [name.strip() for word in methods or [] for name in word.split(",") if name.strip()]
    if peers and not names:
        names = ["mfavbs"]
    names += [*PEERS] * peers + [*OURS] * ablations
    summary = run(
        source,
        names or ["mfavbs", *PEERS],
        out=out or Path(f"bench-{Path(source).resolve().name.split('.')[0]}"),
        seeds=_seeds(seeds),
        n_clusters=n_clusters,
        data=data,
        encoder=encoder,
        weights=weights,
        image_size=image_size,
        grid=grid,
        n_views=views,
        n_workers=workers,
        device=device,
    )
    print_table(summary)
    if as_json:
        print(json.dumps(summary))
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
