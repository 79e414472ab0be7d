from .combined import CombinedEncoder
from .encoder import Encoder
from .loading import load_encoder
from .names import (
    DEFAULT_ENCODER,
    Names,
    Sizes,
    Weights,
    check_encoder,
    each_encoder,
    encoder_asked,
    encoder_name,
)

__all__ = [
    "DEFAULT_ENCODER",
    "CombinedEncoder",
    "Encoder",
    "Names",
    "Sizes",
    "Weights",
    "check_encoder",
    "each_encoder",
    "encoder_asked",
    "encoder_name",
    "load_encoder",
]
