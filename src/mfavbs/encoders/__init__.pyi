from .encoder import DEFAULT_ENCODER, Encoder, load_encoder

__all__ = [
    "DEFAULT_ENCODER",
    "Encoder",
    "load_encoder",
]
