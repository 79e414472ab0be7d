"""What an encoder may be called, and what can be refused before torch is imported.

In: an encoder as it was asked for. Out: nothing, or an error.
"""

from pathlib import Path

from mfavbs.errors import EncoderError

DEFAULT_ENCODER = "open_clip:ViT-B-32/openai"
KINDS = "open_clip:MODEL/PRETRAINED, timm:MODEL or pixels"


def check_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    image_size: int | None = None,
    grid: int = 0,
    fit: str | None = None,
) -> None:
    """Refuse what no encoder can be; whether a library has that model is not asked here.

    Raises
    ------
    EncoderError
        The kind is unknown, a number is out of its range, or there is no such file of weights.
    """
    from mfavbs.images import FITS  # Pillow, for which --help need not wait

    kind, _, model = name.partition(":")
    if name != "pixels" and not (kind in ("timm", "open_clip") and model):
        perhaps = f"; perhaps timm:{name} or open_clip:{name}/TAG" if kind == name != "" else ""
        raise EncoderError(f"unknown encoder {name!r}, expected {KINDS}{perhaps}")
    if grid < 0:
        raise EncoderError(f"grid={grid} should be >= 0")
    if image_size is not None and image_size < 1:
        raise EncoderError(f"image_size={image_size} should be >= 1 pixel")
    if fit is not None and fit not in FITS:
        raise EncoderError(f"fit={fit!r} should be one of {', '.join(FITS)}")
    if weights is None:
        return
    if name == "pixels":
        raise EncoderError("pixels has no weights; leave weights= out, or give another encoder=")
    if not Path(weights).expanduser().is_file():
        raise EncoderError(f"expected a file of weights, there is none at {weights}")
