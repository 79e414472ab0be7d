"""The text side of a small CLIP of random weights: shapes, sentences, cache, what is refused."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mfavbs.encoders import encode_words, load_encoder, load_text_encoder, text
from mfavbs.errors import EncoderError

ABOUT = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
WORDS = ["cat", "a rather long name of some kind of dog", "house", "tree"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    (folder / "mfavbs-words.json").write_text(json.dumps(ABOUT))
    open_clip.add_model_config(folder / "mfavbs-words.json")
    torch.manual_seed(0)
    model = open_clip.create_model("mfavbs-words").eval()
    with torch.no_grad():  # as they start, positions hardly count
        model.positional_embedding.normal_()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "clip.st")
    (folder / "clip.st").rename(folder / "clip.safetensors")
    return model, folder / "clip.safetensors"


@pytest.fixture(scope="module")
def encoder(clip):
    return load_text_encoder("open_clip:mfavbs-words", clip[1])


def test_texts_are_encoded_as_open_clip_does(clip, encoder):
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer("mfavbs-words")(WORDS)
        expected = clip[0].encode_text(tokens, normalize=True).numpy()
    assert np.allclose(encoder(WORDS), expected, atol=1e-4)
    assert encoder._can_shorten


def test_a_text_side_of_another_kind_is_asked_as_it_is(clip, monkeypatch):
    encoder = load_text_encoder("open_clip:mfavbs-words", clip[1])
    expected = encoder(WORDS)
    again = load_text_encoder("open_clip:mfavbs-words", clip[1])
    monkeypatch.setattr(again, "_shortened", lambda tokens: torch.zeros(len(tokens), 24))
    assert np.allclose(again(WORDS), expected, atol=1e-4)
    assert not again._can_shorten


def test_a_word_is_the_mean_of_its_sentences(encoder):
    vectors = encode_words(encoder, WORDS)
    assert (vectors.shape, vectors.dtype) == ((4, 24), np.float16)
    sentences = [s("house") for s in open_clip.SIMPLE_IMAGENET_TEMPLATES]
    mean = encoder(sentences).mean(0)
    assert np.allclose(vectors[2], mean / np.linalg.norm(mean), atol=2e-3)


def test_many_words_get_one_plain_sentence(encoder, monkeypatch):
    monkeypatch.setattr(text, "_FEW", 3)
    vectors = encode_words(encoder, WORDS)
    assert np.allclose(vectors[0], encoder(["a photo of a cat."])[0], atol=2e-3)


def test_the_plain_sentence_is_one_of_open_clips():
    assert text._PLAIN in [s("{}") for s in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_vectors_are_kept_by_weights_words_and_sentences(encoder, tmp_path, monkeypatch):
    first = encode_words(encoder, WORDS, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()

    def never(self, texts, **_):
        raise AssertionError("they are kept")

    monkeypatch.setattr(type(encoder), "__call__", never)
    assert (encode_words(encoder, WORDS, tmp_path / "cache") == first).all()
    for words in (WORDS[:3], WORDS[::-1]):
        with pytest.raises(AssertionError, match="kept"):
            encode_words(encoder, words, tmp_path / "cache")
    monkeypatch.setattr(encoder, "weights_hash", "another")
    with pytest.raises(AssertionError, match="kept"):
        encode_words(encoder, WORDS, tmp_path / "cache")
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:100])  # damaged: made again
    assert (encode_words(encoder, WORDS, tmp_path / "cache") == first).all()


def test_a_cache_that_cannot_be_written_only_costs_time(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(encode_words(encoder, WORDS, tmp_path / "file" / "cache")) == 4


def test_its_image_side_is_known_by_the_encoders_hash(clip, encoder):
    image = load_encoder("open_clip:mfavbs-words", weights=clip[1])
    assert encoder.image_hash == image.recipe["weights_hash"]
    assert encoder.image_size == image.image_size == 32


def test_what_has_no_text_side_says_so(clip, tmp_path):
    with pytest.raises(EncoderError, match="timm:resnet10t has no text side"):
        load_text_encoder("timm:resnet10t")
    state = {k: v for k, v in clip[0].state_dict().items() if k.startswith("visual.")}
    save_file(state, tmp_path / "image.safetensors")
    with pytest.raises(EncoderError, match="hold the image side alone"):
        load_text_encoder("open_clip:mfavbs-words", tmp_path / "image.safetensors")


def test_what_a_library_raises_is_an_encoders_error(encoder, monkeypatch):
    def fail(texts):
        raise IndexError("index out of range in self")

    monkeypatch.setattr(encoder, "_tokenizer", fail)
    with pytest.raises(EncoderError, match="cannot encode words: index out of range"):
        encoder(WORDS)
