"""Building encoders by name, with their weights.

In: names, files of weights, image sizes. Out: an :class:`Encoder`, or several of them as one.
"""

import torch

from mfavbs.encoders.combined import CombinedEncoder
from mfavbs.encoders.encoder import Encoder
from mfavbs.encoders.names import (
    DEFAULT_ENCODER,
    Asked,
    Names,
    Sizes,
    Weights,
    check_encoder,
    each_encoder,
)
from mfavbs.encoders.pretrained import Pretrained, explained, from_open_clip, from_timm
from mfavbs.encoders.towers import PixelsTower
from mfavbs.images import Framing

_PIXELS_SIZE = 16


def load_encoder(
    name: Names = DEFAULT_ENCODER,
    *,
    weights: Weights = None,
    image_size: Sizes = None,
    grid: int = 0,
    fit: str | None = None,
) -> Encoder | CombinedEncoder:
    """Build a frozen encoder, with weights from a local file or, if none is given, from the hub.

    Of several, given as a list, it makes one that gives the tokens of all of them side by side.

    Parameters
    ----------
    name
        ``open_clip:MODEL/PRETRAINED``, ``timm:MODEL`` or ``pixels``, or a list of these.
    weights
        A local checkpoint: ``.safetensors``, or ``.pt``/``.pth``/``.bin`` holding tensors only.
        For open_clip the whole model or its image side. The header of a safetensors file may
        carry ``mean`` and ``std``, each one number or a list of three, ``fit``, ``crop_pct`` and
        ``interpolation`` (see :class:`mfavbs.images.Framing`), and ``pad_type`` for timm. Of
        several encoders a list of as many, None or ``-`` where there is no file.
    image_size
        Edge of the views in pixels; by default the size the weights were trained at. Position
        embeddings of another size are interpolated. Of several encoders one for all, or a list.
    grid
        0 for the pooled feature alone, g > 0 for g × g patch tokens beside it.
    fit
        How an image that is not square becomes one: ``crop`` keeps the middle; ``squash`` and
        ``pad`` keep all of it, for banners and panoramas. By default as the weights were trained,
        the first encoder's where there are several.

    Raises
    ------
    EncoderError
        The name is unknown; the weights cannot be fetched or read or do not fit the model; it
        cannot take that image size or give that grid; or there is not one of each for every name.
    """
    check_encoder(name, weights=weights, image_size=image_size, grid=grid, fit=fit)
    encoders = [_load(one, grid, fit) for one in each_encoder(name, weights, image_size)]
    return encoders[0] if len(encoders) == 1 else CombinedEncoder(encoders)


def _load(asked: Asked, grid: int, fit: str | None) -> Encoder:
    name, path, image_size = asked
    if name == "pixels":
        encoder = _pixels(image_size or _PIXELS_SIZE, grid)
    else:
        made = (from_timm if name.startswith("timm:") else from_open_clip)(name, path, image_size)
        encoder = _pretrained(name, made, grid)
    encoder.framing = _framing(encoder, fit)
    if image_size or grid:
        with explained(f"{name} cannot encode with image_size={encoder.image_size}, {grid=}"):
            encoder(torch.zeros(1, 3, encoder.image_size, encoder.image_size, dtype=torch.uint8))
    return encoder


def _pretrained(name: str, made: Pretrained, grid: int) -> Encoder:
    return Encoder(
        name,
        made.tower,
        made.image_size,
        made.mean,
        made.std,
        grid,
        made.weights_hash,
        framing=made.framing,
        pad_type=made.pad_type,
    )


def _framing(encoder: Encoder, fit: str | None) -> Framing:
    """The weights' own, or as asked: then nothing is cut off an image that is to be kept whole."""
    own = encoder.framing
    if fit is None or fit == own.fit:
        return own
    if fit != "pad":
        return Framing(fit, own.crop_pct if fit == "crop" else 1.0, own.interpolation)
    red, green, blue = encoder.mean.flatten().round().int().tolist()  # 0 to the network
    return Framing(fit, 1.0, own.interpolation, (red, green, blue))


def _pixels(image_size: int, grid: int) -> Encoder:
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Encoder("pixels", PixelsTower(grid), image_size, zero, one, grid, "", "shift")
