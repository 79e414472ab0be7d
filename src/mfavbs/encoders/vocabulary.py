"""Words that clusters may be called by, and vectors of them made elsewhere.

In: a text file with a word on each line, perhaps a .npy with a row for each line. Out: (w,) words,
(w, f) vectors.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mfavbs.errors import SourceError
from mfavbs.files import user_path

MOST = 100_000  # words that a text side is asked to encode: half an hour on a CPU
_LONGEST = 200  # characters


class Vocabulary(NamedTuple):
    """Words, where they are from, and their vectors (w, f) if those are given."""

    words: list[str]
    name: str
    vectors: np.ndarray | None = None


def read_vocabulary(
    words: str | Path, vectors: str | Path | np.ndarray | None = None
) -> Vocabulary:
    """Read a vocabulary; empty lines and a word's second time are passed over.

    Parameters
    ----------
    words
        A text file in UTF-8, a word or a few on each line; or ``"nouns"``, those of WordNet that
        ImageNet has.
    vectors
        A ``.npy`` or an array with a row for each line of ``words``, in the encoder's space.

    Raises
    ------
    SourceError
        It cannot be read, has fewer than two words, too many to be encoded, or not as many vectors
        as lines.
    """
    if str(words) == "nouns" and vectors is None:
        return Vocabulary(nouns(), "nouns of WordNet")
    path = user_path(words)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SourceError(f"The vocabulary {path} is no text in UTF-8; save it as such.") from error
    except OSError as error:
        raise SourceError(
            f"The vocabulary {path} cannot be read: {error.strerror or error}."
        ) from error
    rows, kept = _rows(lines), _vectors(vectors, len(lines), path)
    if len(rows) < 2:
        raise SourceError(
            f"The vocabulary {path} has {len(rows)} word{'s' * (len(rows) != 1)}; a name is chosen "
            "among two or more. Give more words, one on each line."
        )
    if kept is None and len(rows) > MOST:
        raise SourceError(
            f"The vocabulary {path} has {len(rows):,} words; the encoder's text side is asked for "
            f"{MOST:,} at most. Give a shorter one, or their vectors as vocabulary_vectors=."
        )
    if kept is not None:
        kept = kept[list(rows.values())]
        if not np.isfinite(kept).all():
            raise SourceError(f"The vectors of {path} hold values that are not finite.")
    return Vocabulary(list(rows), path.name, kept)


def _rows(lines: list[str]) -> dict[str, int]:
    """The line of every word, where it is first."""
    rows: dict[str, int] = {}
    for row, line in enumerate(lines):
        word = " ".join(line.split())[:_LONGEST]
        if word:
            rows.setdefault(word, row)
    return rows


def _vectors(
    vectors: str | Path | np.ndarray | None, n_lines: int, words: Path
) -> np.ndarray | None:
    if vectors is None:
        return None
    if isinstance(vectors, np.ndarray):
        found, name = vectors, "the array"
    else:
        name = str(user_path(vectors))
        try:
            found = np.load(name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SourceError(f"The vectors {name} cannot be read as .npy: {error}.") from error
    if found.ndim != 2 or found.dtype.kind != "f" or len(found) != n_lines:
        raise SourceError(
            f"Expected vectors of shape (w, f), floats, with a row for each of the {n_lines:,} "
            f"lines of {words}; {name} has {found.dtype} of shape {found.shape}."
        )
    return found


def nouns() -> list[str]:
    """The 20,099 different nouns that name the 21,841 classes of ImageNet, sorted."""
    import timm.data

    info = timm.data.ImageNetInfo("imagenet-22k")
    said = (info.index_to_description(number) for number in range(info.num_classes()))
    return sorted({text.split(",")[0].strip() for text in said})
