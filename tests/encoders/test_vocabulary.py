"""Vocabularies: what is read, and what is refused with a reason."""

import numpy as np
import pytest

from mfavbs.encoders import nouns, read_vocabulary, vocabulary
from mfavbs.errors import SourceError


@pytest.fixture
def write(tmp_path):
    def write(text, name="words.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_empty_lines_blanks_and_second_times_are_passed_over(write):
    read = read_vocabulary(write("\ufeffcat\n\n  big   dog \r\ncat\n\t\nhouse\n"))
    assert read.words == ["cat", "big dog", "house"]
    assert (read.name, read.vectors) == ("words.txt", None)


def test_vectors_have_a_row_for_each_line_the_empty_ones_too(write, tmp_path):
    np.save(tmp_path / "words.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    read = read_vocabulary(write("cat\n\ncat\ndog\n"), tmp_path / "words.npy")
    assert read.words == ["cat", "dog"]
    assert read.vectors.tolist() == [[0, 1], [6, 7]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 words"),
        ("\n\n  \n", "has 0 words"),
        ("cat\n\ncat\n", "has 1 word;"),
        (b"\xff\xfe\x00c", "no text in UTF-8"),
    ],
)
def test_too_few_words_and_no_text_are_refused(write, text, message):
    with pytest.raises(SourceError, match=message):
        read_vocabulary(write(text))


def test_a_million_words_need_vectors(write, tmp_path):
    path = write("\n".join(f"word{i}" for i in range(1_000_000)))
    with pytest.raises(SourceError, match=r"1,000,000 words.*100,000 at most"):
        read_vocabulary(path)
    np.save(tmp_path / "words.npy", np.ones((1_000_000, 2), np.float16))
    assert len(read_vocabulary(path, tmp_path / "words.npy").words) == 1_000_000


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((2, 4)), r"each of the 3 lines.*\(2, 4\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((3, 4), int), "int64"),
        (np.full((3, 4), np.nan), "not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(write, vectors, message):
    with pytest.raises(SourceError, match=message):
        read_vocabulary(write("a\nb\nc\n"), vectors)


def test_files_that_are_missing_or_damaged_are_named(write, tmp_path):
    with pytest.raises(SourceError, match=r"none\.txt cannot be read"):
        read_vocabulary(tmp_path / "none.txt")
    with pytest.raises(SourceError, match=r"cannot be read as \.npy"):
        read_vocabulary(write("a\nb\n"), write("no array", "words.npy"))
    with pytest.raises(SourceError, match=r"cannot be read as \.npy"):
        read_vocabulary(write("a\nb\n"), tmp_path / "none.npy")


def test_the_nouns_are_as_many_as_the_help_says():
    words = nouns()
    assert len(words) == len(set(words)) == 20_099
    assert {"golf ball", "tench", "church"} < set(words)
    assert len(words) <= vocabulary.MOST
