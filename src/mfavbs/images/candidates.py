"""In: a source. Out: its n candidate images: what could be an image by its name.

Each has a key, a stat and a content, bytes or uint8 (h, w[, c]). What cannot be read raises
`ImageError` with its reason; nothing is dropped in silence.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from mfavbs.errors import ImageError


class Images:
    """Candidate images: what could be an image by its name; whether it is shows on reading.

    Attributes
    ----------
    kind
        ``"folder"``, ``"tar"``, ``"list"`` or ``"array"``.
    location
        Absolute path of the folder, tar or text file; empty for an array, a list of paths and
        standard input.
    keys
        Unique names, valid UTF-8: relative POSIX paths, sorted, for a folder; as in the tar; as
        given in a list.
    skipped
        (path, reason) of what is left out, sorted; a folder's path ends in a slash. Where a folder
        has more than 100 of a kind, a row ``folder/*.txt`` says how many more.
    labels
        Known label of every key where it is not its folder, as in a public set; else None.
    """

    kind: str
    labels: Sequence[str] | None = None

    def __init__(
        self, location: str, keys: Iterable[str], skipped: Iterable[tuple[str, str]] = ()
    ) -> None:
        self.location = location
        self.keys = list(keys)
        self.skipped = list(skipped)

    def __len__(self) -> int:
        return len(self.keys)

    def stat(self, row: int) -> tuple[int, float]:
        """Size in bytes and modification time; (-1, 0.0) for a file that is not there."""
        raise NotImplementedError

    def file(self, row: int) -> str | None:
        """Absolute path of the file that is this image; None where it is not one of its own."""
        return None

    def read(self, row: int) -> bytes | np.ndarray:
        """Undecoded content of one image; raises `ImageError` where it cannot be had."""
        raise NotImplementedError


def not_empty(content: bytes) -> bytes:
    """The content, unless there is none."""
    if not content:
        raise ImageError("empty file (0 bytes)")
    return content


def folder_labels(keys: Sequence[str]) -> list[str] | None:
    """Label each key by its folder.

    Parameters
    ----------
    keys
        `Images.keys`.

    Returns
    -------
    list of str or None
        Relative POSIX path of each key's folder, ``"."`` for one beside the folders; ``None``
        where all keys are in the same folder, which labels nothing.
    """
    labels = [key.rpartition("/")[0] or "." for key in keys]
    return labels if len(set(labels)) > 1 else None
