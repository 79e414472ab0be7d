"""What several commands of the command line are asked with. Nothing heavy is imported here.

In: nothing. Out: annotated types, of which typer makes arguments and options.
"""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_ENCODER = "open_clip:ViT-B-32/openai"  # encoders.DEFAULT_ENCODER, without its imports

SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of images (searched to any depth), a .tar, a .txt of paths, a feature "
        "store, or a .npy of features.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
EncoderOption = Annotated[
    str, typer.Option(help="open_clip:MODEL/PRETRAINED, timm:MODEL or pixels.")
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Local weights of the encoder (.safetensors, .pt).")
]
ImageSizeOption = Annotated[
    int | None, typer.Option(metavar="PX", help="Edge of a view; default: the encoder's own.")
]
GridOption = Annotated[int, typer.Option(help="Add the patch tokens, averaged to GRID x GRID.")]
ViewsOption = Annotated[int, typer.Option(help="Views of every image, the clean one included.")]
SeedOption = Annotated[int, typer.Option(help="Of views and training.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes that decode; default: as many as the encoder needs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
