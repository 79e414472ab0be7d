from .encoder import Encoder, load_encoder
from .names import DEFAULT_ENCODER, check_encoder

__all__ = [
    "DEFAULT_ENCODER",
    "Encoder",
    "check_encoder",
    "load_encoder",
]
