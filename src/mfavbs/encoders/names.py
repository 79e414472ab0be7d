"""What encoders may be called, and what can be refused before torch is imported.

In: one encoder or several as they were asked for. Out: each of them, or an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mfavbs.errors import EncoderError

DEFAULT_ENCODER = "open_clip:ViT-B-32/openai"
KINDS = "open_clip:MODEL/PRETRAINED, timm:MODEL or pixels"

Names: TypeAlias = str | Sequence[str]
Weights: TypeAlias = str | Path | Sequence[str | Path | None] | None
Sizes: TypeAlias = int | Sequence[int] | None


class Asked(NamedTuple):
    """One encoder as it was asked for; ``weights`` is a file, or None for its published ones."""

    name: str
    weights: Path | None
    image_size: int | None


def each_encoder(name: Names, weights: Weights = None, image_size: Sizes = None) -> list[Asked]:
    """Join names, files and sizes, which are given in the same order.

    Parameters
    ----------
    name
        One or several.
    weights
        None, or one for each; None or ``-`` among them is one without a file.
    image_size
        None, one for all, or one for each.

    Raises
    ------
    EncoderError
        There are more or fewer of one than of the other.
    """
    names = [name] if isinstance(name, str) else list(name)
    files = [weights] if weights is None or isinstance(weights, str | Path) else list(weights)
    sizes: list[int | None] = (
        [*image_size] or [None] if isinstance(image_size, Sequence) else [image_size]
    )
    if not names:
        raise EncoderError(f"expected an encoder, got none; give encoder= one of {KINDS}")
    if len(sizes) == 1:
        sizes *= len(names)
    if files in ([], [None]):
        files = [None] * len(names)
    for what, found, more in (
        ("weights=", files, "; - stands for one without a file"),
        ("image_size=", sizes, ", or one for all"),
    ):
        if len(found) != len(names):
            raise EncoderError(
                f"expected one {what} for each encoder, {' and '.join(names)}, in the same order"
                f"{more}; got {len(found)} for {len(names)}"
            )
    paths = [None if file is None or str(file) == "-" else Path(file) for file in files]
    paths = [path if path is None else path.expanduser() for path in paths]
    return [Asked(*each) for each in zip(names, paths, sizes, strict=True)]


def encoder_asked(name: Names, weights: Weights, image_size: Sizes) -> dict[str, Any]:
    """All three as a run records them: values for one encoder, lists for several."""
    each = each_encoder(name, weights, image_size)
    lists: dict[str, list] = {
        "encoder": [one.name for one in each],
        "weights": [one.weights and str(one.weights.resolve()) for one in each],
        "image_size": [one.image_size for one in each],
    }
    return lists if len(each) > 1 else {what: values[0] for what, values in lists.items()}


def encoder_name(name: Names) -> str:
    """One name for all of them, as a store has it."""
    return name if isinstance(name, str) else " + ".join(name)


def has_text_side(name: str) -> bool:
    """Whether an encoder of that name may have a text side."""
    return name.startswith("open_clip:")


def check_encoder(
    name: Names,
    *,
    weights: Weights = None,
    image_size: Sizes = None,
    grid: int = 0,
    fit: str | None = None,
) -> None:
    """Refuse what no encoder can be; whether a library has that model is not asked here.

    Raises
    ------
    EncoderError
        The kind is unknown, a number is out of its range, there is no such file of weights, or
        there is not one for each.
    """
    from mfavbs.images import FITS  # Pillow, for which --help need not wait

    asked = each_encoder(name, weights, image_size)
    for one in asked:
        _check_name(one.name)
    if grid < 0:
        raise EncoderError(f"grid={grid} should be >= 0")
    for one in asked:
        if one.image_size is not None and one.image_size < 1:
            raise EncoderError(f"image_size={one.image_size} should be >= 1 pixel")
    if fit is not None and fit not in FITS:
        raise EncoderError(f"fit={fit!r} should be one of {', '.join(FITS)}")
    for one in asked:
        _check_weights(one, f" of {one.name}" if len(asked) > 1 else "")


def _check_name(name: str) -> None:
    kind, _, model = name.partition(":")
    if name != "pixels" and not (kind in ("timm", "open_clip") and model):
        perhaps = f"; perhaps timm:{name} or open_clip:{name}/TAG" if kind == name != "" else ""
        raise EncoderError(f"unknown encoder {name!r}, expected {KINDS}{perhaps}")


def _check_weights(asked: Asked, whose: str) -> None:
    if asked.weights is None:
        return
    if asked.name == "pixels":
        raise EncoderError("pixels has no weights; leave weights= out, or give another encoder=")
    if not asked.weights.is_file():
        raise EncoderError(f"expected a file of weights{whose}, there is none at {asked.weights}")
