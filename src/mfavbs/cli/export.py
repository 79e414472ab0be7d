"""The command `mfavbs export`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.cli.options import JsonOption, QuietOption, RunArgument, one_of
from mfavbs.cli.output import counted, print_json, unless

_KINDS = ("folders", "imagefolder", "csv", "parquet", "fiftyone")
_HOW = ("auto", "hardlink", "symlink", "copy")


def export(
    run: RunArgument,
    to: Annotated[
        str,
        typer.Option(
            metavar="|".join(_KINDS),
            help="A folder for each cluster, alone or as ImageFolder reads it; a table; or a "
            "dataset for FiftyOne.",
            autocompletion=one_of(*_KINDS),
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder, or that of an earlier export.")],
    how: Annotated[
        str,
        typer.Option(
            metavar="|".join(_HOW),
            help="How images get there. auto: hard links, which take no room, or copies where "
            "those cannot be made. A change to a hard link is a change to the image.",
            autocompletion=one_of(*_HOW),
        ),
    ] = "auto",
    images: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Where the images lie now.")
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the clusters of a run away: into folders, a table, or another program.

    A second export into the same folder changes only what changed.
    """
    say = unless(quiet)
    say(f"Exporting the run in {run} to {out}")
    from mfavbs.exporting import export_run

    placed = export_run(run, to, out, how=how, images=images, verbose=not quiet)
    say(f"{placed.n_new:,} new, {placed.n_kept:,} as they were, {placed.n_removed:,} removed")
    for path, reason in placed.missing[:1]:
        say(f"{counted(len(placed.missing), 'image')} could not be had, {path}: {reason}")
    for path in placed.changed[:1]:
        say(f"{counted(len(placed.changed), 'file')} changed by somebody and left alone: {path}")
    print_json(placed._asdict() | {"folder": str(placed.folder)}, as_json)
