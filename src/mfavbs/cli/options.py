"""What several commands of the command line are asked with. Nothing heavy is imported here.

In: nothing. Out: annotated types, of which typer makes arguments and options.

A command's parameters are called as in Python, so that a message about ``n_views=`` is one about
``--views`` on the command line (:mod:`mfavbs.cli.words`).
"""

from pathlib import Path
from typing import Annotated

import typer

from mfavbs.devices import DEVICES
from mfavbs.encoders import DEFAULT_ENCODER
from mfavbs.engines import ENGINES
from mfavbs.images import AUGMENTS, IMAGE_MEMORY
from mfavbs.model import Number

__all__ = ["DEFAULT_ENCODER", "IMAGE_MEMORY"]


def one_of(*words: str):
    """Completion of an option by what it may begin with."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


SourceArgument = Annotated[
    str,  # a Path would make s3:/ of s3://
    typer.Argument(
        metavar="SOURCE",
        help="A folder of images (searched to any depth), a .tar or a folder of tars, Parquet, a "
        ".txt or .csv of paths, - for paths on standard input, a URL (s3://, gs://, https://, "
        "hf://) of any of them, a feature store, or a .npy of features; or a "
        "run, whose clusters are joined or split.",
    ),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
EncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="open_clip:MODEL/PRETRAINED, timm:MODEL or pixels; several times for several, whose "
        "features are joined.",
        show_default=DEFAULT_ENCODER,
        autocompletion=one_of("pixels", "timm:", "open_clip:", DEFAULT_ENCODER),
    ),
]
WeightsOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Local weights of the encoder (.safetensors, .pt); of several, one for each in their "
        "order, - where there is no file.",
    ),
]
ImageSizeOption = Annotated[
    list[int] | None,
    typer.Option(
        metavar="PX",
        min=1,
        help="Edge of a view, once for all encoders or for each; default: the encoder's own.",
    ),
]
TRAININGS = ("frozen", "end-to-end")
TrainOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(TRAININGS),
        help="On the encoder's features; or from there on with the pixels, for a GPU.",
        autocompletion=one_of(*TRAININGS),
    ),
]
ResolutionOption = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        min=1,
        help="End to end: edge of a view, 64 by default; a multiple of 16, or of 4 below 64.",
    ),
]
NumberOption = Annotated[
    str | None,
    typer.Option(
        "-k",
        "--n-clusters",
        metavar="K|auto|LOW:HIGH",
        help="Clusters, 2 or more; auto and a range as 5:60 find how many there are.",
        autocompletion=one_of("auto"),
    ),
]
AnchorOption = Annotated[
    bool,
    typer.Option(
        "--anchor/--no-anchor",
        help="End to end: tell the network the encoder's features; without, no encoder is needed.",
    ),
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Default: by the number of images.")]
OBJECTIVES = ("disjoint", "paper")
ObjectiveOption = Annotated[
    str,
    typer.Option(
        help="disjoint, or paper: the method as arXiv 2511.08883 has it.",
        autocompletion=one_of(*OBJECTIVES),
    ),
]
MapOption = Annotated[
    bool, typer.Option("--map/--no-map", help="Place all images on a plane, for the report.")
]
GridOption = Annotated[
    int, typer.Option(min=0, help="Add the patch tokens, averaged to GRID x GRID.")
]
FitOption = Annotated[
    str | None,
    typer.Option(
        metavar="crop|squash|pad",
        help="How an image becomes a square; squash and pad keep all of a banner or a panorama. "
        "Default: as the encoder's weights were trained.",
        autocompletion=one_of("crop", "squash", "pad"),
    ),
]
ViewsOption = Annotated[
    int, typer.Option("--views", min=1, help="Views of every image, the clean one included.")
]
AugmentOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(AUGMENTS),
        help="How far views go from the image: gentle keeps direction and colour, as for text and "
        "stains; rotate is for images without an up, as from above; none: the image alone.",
        autocompletion=one_of(*AUGMENTS),
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out files and folders of that name, as '*_small.jpg', or path, as 'raw/2019*'; "
        "may be given several times.",
    ),
]
RangeOption = Annotated[
    str,
    typer.Option(
        "--range",
        metavar="LOW HIGH|auto",
        help="Grey values that become black and white, in images of more than 8 bits; auto "
        "measures a sample. Default: all that the file's type can hold.",
        autocompletion=one_of("auto", "type"),
    ),
]
ImageMemoryOption = Annotated[
    int,
    typer.Option(metavar="MB", min=1, help="Memory that decoding one image may take."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of views and training.")]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=one_of(*DEVICES))
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What may be held in memory, as 8G; the rest lies on the disk for a while. Default: "
        "half of what there is.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that decode; default: as many as the encoder needs.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(ENGINES),
        help="What reads and encodes images: this machine, or the processes of a Ray cluster.",
        autocompletion=one_of(*ENGINES),
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="Head of the Ray cluster; auto: the one that this machine is a node of. Default: a "
        "Ray of its own on this machine, for as long as it is needed.",
    ),
]
VocabularyOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|nouns|off",
        help="Words that clusters may be called by, one on each line. Default: with a CLIP encoder "
        "20,099 nouns, encoded once; else the words of paths, and dates.",
        autocompletion=one_of("nouns", "off"),
    ),
]
VectorsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A .npy with a vector for each line of the vocabulary, in the encoder's space.",
    ),
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|auto|off",
        help="Share features with other runs by way of this folder; auto: the system's place for "
        "caches. Default: what MFAVBS_CACHE says, else off.",
        autocompletion=one_of("auto", "off"),
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Nothing but errors on stderr.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def joined_range(words: list[str]) -> list[str]:
    """Arguments in which both values of ``--range LOW HIGH`` are one word, as typer wants it."""
    for at, word in enumerate(words[:-2]):
        if word == "--range" and all(map(_is_number, words[at + 1 : at + 3])):
            return [*words[: at + 1], " ".join(words[at + 1 : at + 3]), *words[at + 3 :]]
    return words


def parsed_range(text: str) -> str | tuple[float, float]:
    """What ``--range`` was given: a word, or two numbers with a blank or a comma between them."""
    numbers = text.replace(",", " ").split()
    if len(numbers) == 2 and all(map(_is_number, numbers)):
        return float(numbers[0]), float(numbers[1])
    return text


def parsed_number(text: str | None) -> Number | None:
    """What ``-k`` was given: a number, ``auto``, or a range as ``5:60``."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        low, _, high = text.partition(":")
        return (int(low), int(high)) if ":" in text else int(low)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no number of clusters, auto, or a range as 5:60", param_hint="-k"
        ) from error


def checked_objective(objective: str) -> str:
    """What ``--objective`` was given."""
    if objective not in OBJECTIVES:
        raise typer.BadParameter(
            f"{objective!r} is not disjoint or paper", param_hint="--objective"
        )
    return objective


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
