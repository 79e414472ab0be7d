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
    has_text_side,
)
from .text import TextEncoder, encode_words, load_text_encoder
from .vocabulary import Vocabulary, nouns, read_vocabulary

__all__ = [
    "DEFAULT_ENCODER",
    "CombinedEncoder",
    "Encoder",
    "Names",
    "Sizes",
    "TextEncoder",
    "Vocabulary",
    "Weights",
    "check_encoder",
    "each_encoder",
    "encode_words",
    "encoder_asked",
    "encoder_name",
    "has_text_side",
    "load_encoder",
    "load_text_encoder",
    "nouns",
    "read_vocabulary",
]
