"""The text side of a CLIP encoder: words as vectors in the space of its images.

In: an encoder's name and weights, (w,) words. Out: (w, f) vectors of unit length.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mfavbs.encoders.names import has_text_side
from mfavbs.encoders.pretrained import explained, known_model, model_on_the_hub, quiet
from mfavbs.encoders.weights import read_weights, weights_hash
from mfavbs.errors import EncoderError
from mfavbs.files import write_whole
from mfavbs.progress import Progress

_TEXTS = 128  # encoded at once
_FEW = 3_000  # words up to which each is put into several sentences
_PLAIN = "a photo of a {}."


class TextEncoder:
    """The text side of an open_clip model.

    Parameters
    ----------
    name
        The encoder's.
    clip
        The whole model, with its weights.
    tokenizer
        From texts to (b, length) int64.
    """

    def __init__(self, name: str, clip: Any, tokenizer: Callable[[list[str]], Tensor]) -> None:
        self.name = name
        self._clip = clip.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.image_hash = weights_hash(clip.visual)
        size = clip.visual.image_size
        self.image_size: int = size if isinstance(size, int) else size[0]
        texts = {k: v for k, v in clip.state_dict().items() if not k.startswith("visual.")}
        digest = hashlib.blake2b(digest_size=8)
        for key, tensor in sorted(texts.items()):
            digest.update(key.encode())
            digest.update(np.ascontiguousarray(tensor.float().numpy()).data)
        self.weights_hash = digest.hexdigest()
        self._can_shorten: bool | None = None

    def to_device(self, device: torch.device) -> "TextEncoder":
        """Move to ``device``."""
        self._clip.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], *, show: bool = False) -> np.ndarray:
        """Vectors (b, f) float32 of unit length of the texts."""
        if not texts:
            return np.empty((0, 0), np.float32)
        with explained(f"the text side of {self.name} cannot encode words"):
            return self._vectors(texts, show)

    def _vectors(self, texts: Sequence[str], show: bool) -> np.ndarray:
        tokens = self._tokenizer(list(texts))  # (b, length)
        lengths = tokens.argmax(-1)  # of the end of the text, which has the largest number
        order = lengths.argsort(stable=True)
        found: list[Tensor] = []
        with Progress("encoding words", len(texts), "texts", show=show) as progress:
            for rows in order.split(_TEXTS):
                found.append(self._encoded(tokens[rows]))
                progress.advance(len(rows))
        vectors = torch.empty(len(texts), found[0].shape[1])
        vectors[order] = torch.cat(found)
        return F.normalize(vectors, dim=-1).numpy()

    def _encoded(self, tokens: Tensor) -> Tensor:
        tokens = tokens.to(next(self._clip.parameters()).device)
        if self._can_shorten is None:
            self._can_shorten = self._shortening_changes_nothing(tokens[:8])
        encode = self._shortened if self._can_shorten else self._clip.encode_text
        return encode(tokens).float().cpu()  # (b, f)

    def _shortening_changes_nothing(self, tokens: Tensor) -> bool:
        """Whether the tokens after a text's end can be left out, as in a causal transformer."""
        try:
            expected, got = self._clip.encode_text(tokens), self._shortened(tokens)
        except (AttributeError, RuntimeError, TypeError, ValueError):  # built in another way
            return False
        return bool(torch.allclose(expected, got, rtol=1e-3, atol=1e-4))

    def _shortened(self, tokens: Tensor) -> Tensor:
        """As the model's own, on as many tokens as the longest text has: 8 times as fast."""
        clip = self._clip
        ends = tokens.argmax(-1)
        length = int(ends.max()) + 1
        x = clip.token_embedding(tokens[:, :length]) + clip.positional_embedding[:length]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        x = clip.ln_final(x)[torch.arange(len(x)), ends]  # (b, d)
        return x @ clip.text_projection


def load_text_encoder(name: str, weights: Path | None = None) -> TextEncoder:
    """Build the text side of a CLIP encoder, with the weights that its image side has.

    Parameters
    ----------
    name
        ``open_clip:MODEL/TAG``, as in :func:`mfavbs.load_encoder`.
    weights
        A file with the whole model, or None for its published weights.

    Raises
    ------
    EncoderError
        It has no text side, or its weights cannot be had.
    """
    import open_clip

    if not has_text_side(name):
        raise EncoderError(f"{name} has no text side")
    hub = name.startswith("open_clip:hf-hub:")
    model, about, file = (model_on_the_hub if hub else known_model)(name, weights)
    with explained(f"the text side of {name} cannot be built"), quiet():
        clip: Any = open_clip.create_model(
            model,
            force_quick_gelu=bool(about.get("quick_gelu")),
            pretrained_text=False,
            **({"load_weights": False} if hub else {}),
        )
        tokenizer = open_clip.get_tokenizer(model)
    _fit(clip, file)
    return TextEncoder(name, clip, tokenizer)


def _fit(clip: Any, file: Path) -> None:
    """Load a whole checkpoint."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import resize_pos_embed

    state = read_weights(file)
    with explained(f"the weights {file} do not fit the model"):
        state = convert_state_dict(clip, state)
        resize_pos_embed(state, clip)
        lacks = clip.load_state_dict(state, strict=False).missing_keys
    texts = [key for key in lacks if not key.startswith("visual.")]
    if texts:
        raise EncoderError(f"the weights {file} hold the image side alone, without {texts[0]}")


def encode_words(
    encoder: TextEncoder, words: Sequence[str], cache: Path | None = None, *, show: bool = False
) -> np.ndarray:
    """Vectors of words, each the mean of those of some sentences with it.

    The sentences are open_clip's: seven of them for up to 3,000 words, else ``a photo of a ...``.

    Parameters
    ----------
    encoder
        From :func:`load_text_encoder`.
    words
        (w,) one or several words each.
    cache
        A folder in which vectors are kept by weights, words and sentences, or None.
    show
        Show progress on stderr.

    Returns
    -------
    ndarray
        (w, f) float16 of unit length.
    """
    sentences = _sentences(len(words))
    path = None if cache is None else cache / f"{_key(encoder, words, sentences)}.npy"
    kept = None if path is None else _kept(path, len(words))
    if kept is not None:
        return kept
    texts = [sentence.replace("{}", word) for word in words for sentence in sentences]
    each = encoder(texts, show=show).reshape(len(words), len(sentences), -1)
    vectors = each.mean(1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found = vectors.astype(np.float16)
    if path is not None:
        _keep(path, found)
    return found


def _sentences(n_words: int) -> list[str]:
    import open_clip

    return [s("{}") for s in open_clip.SIMPLE_IMAGENET_TEMPLATES] if n_words <= _FEW else [_PLAIN]


def _key(encoder: TextEncoder, words: Sequence[str], sentences: Sequence[str]) -> str:
    said = "\0".join([encoder.name, encoder.weights_hash, *sentences, "", *words])
    return hashlib.blake2b(said.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _kept(path: Path, n_words: int) -> np.ndarray | None:
    """What the cache has, if it is whole."""
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = vectors.ndim == 2 and len(vectors) == n_words and vectors.dtype == np.float16
    return vectors if whole and np.isfinite(vectors).all() else None


def _keep(path: Path, vectors: np.ndarray) -> None:
    """A cache that cannot be written only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.save(file, vectors))
    except OSError:
        pass
