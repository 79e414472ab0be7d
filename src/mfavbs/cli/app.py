"""The command line: parses, calls, prints.

In: arguments. Out: text for a person on stderr; with ``--json`` one object on stdout.
"""

import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

# Nothing heavy is imported up here: `mfavbs --help` answers in a fraction of a second, and so does
# every command to what it cannot do.
from mfavbs import __version__
from mfavbs.cli.bench import bench
from mfavbs.cli.cache import cache
from mfavbs.cli.cluster import cluster, demo
from mfavbs.cli.embed import embed
from mfavbs.cli.export import export
from mfavbs.cli.finished import evaluate, predict, report
from mfavbs.cli.options import joined_range
from mfavbs.cli.output import say
from mfavbs.cli.plan import plan
from mfavbs.cli.serve import serve
from mfavbs.cli.words import as_options, flags_of
from mfavbs.errors import MfavbsError
from mfavbs.launching import leave_to_first_process, together

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Cluster images without labels.",
    epilog="Exit codes: 0 done, or nothing to do; 1 failed with a message; 2 wrong usage; "
    "130 interrupted.",
)

_SHARED = ("demo", "cluster", "embed")  # what several processes do together
_INTERRUPTED = 130  # what typer makes of Ctrl-C


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of every command; ``--debug`` itself is read by :func:`main`."""
    if context.invoked_subcommand in _SHARED:
        context.with_resource(together())
    else:
        leave_to_first_process()


for command in (demo, plan, cluster, embed, predict, evaluate, report, export, serve, bench, cache):
    app.command()(command)


def main() -> None:
    """Entry point: every failure a user can cause ends in one line and an exit code."""
    debug = "--debug" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--debug"]  # wherever it stands
    sys.argv[1:] = joined_range(words)
    warnings.showwarning = _show_warning
    try:
        app()
    except MfavbsError as error:
        _fail(str(error), debug)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            say("Interrupted. What is finished is kept: the same command goes on from there.")
        raise
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}\nRun again with --debug for the traceback.", debug)


def _fail(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    say(f"Error: {as_options(message, flags_of(typer.main.get_command(app)))}")
    sys.exit(1)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    say(f"Warning: {as_options(str(message), flags_of(typer.main.get_command(app)))}")
