"""`mfavbs serve`: parse, call, say where it listens."""

import os
from typing import Annotated

import typer

from mfavbs.cli.options import DeviceOption, QuietOption, RunArgument, WeightsOption
from mfavbs.cli.output import unless


def serve(
    run: RunArgument,
    host: Annotated[
        str, typer.Option(help="Where to listen; others than this machine need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 8000,
    max_images: Annotated[int, typer.Option(min=1, help="Images in one request.")] = 64,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes in one request.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, help="For one request.")] = 60,
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Answer new images over HTTP with a finished run; MFAVBS_TOKEN is the token it asks for."""
    from mfavbs.serving import check_host, serve

    token = os.environ.get("MFAVBS_TOKEN")
    check_host(host, token)
    from mfavbs.answering import Answering

    say = unless(quiet)
    answering = Answering(run, weights, device)
    asks = ", for requests with the token" if token else ""
    say(f"Serving {run} at http://{host}:{port}{asks}; Ctrl-C ends it")
    bounds = {"max_images": max_images, "max_mb": max_mb, "seconds": seconds}
    serve(answering, host=host, port=port, token=token, **bounds)
