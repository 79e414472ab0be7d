"""In: a text file, a CSV, standard input or a list of paths. Out: {key: path}, what is left out.

A key is the path as it was given, with ``/`` between its parts and without a leading ``./``.
"""

import codecs
import csv
import glob
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from unicodedata import normalize

from mfavbs.errors import SourceError
from mfavbs.images.finding import free_key, utf8, why_no_image
from mfavbs.images.skipping import Skipped, excluded_by, why_left_out
from mfavbs.urls import is_url, without_secrets

STDIN = "-"
LIST_SUFFIXES = (".txt", ".lst", ".list")
TABLE_SUFFIXES = (".csv", ".tsv")


def read_list(path: str) -> tuple[list[str], bool]:
    """Paths in a text file, a CSV with a column ``path`` or, for ``-``, on standard input.

    Returns
    -------
    paths, patterns
        As they are written, and whether ``*`` and ``?`` in them stand for other characters, which
        they do but in a CSV.
    """
    try:
        content = sys.stdin.buffer.read() if path == STDIN else _content(path)
    except OSError as error:
        raise SourceError(f"expected a readable text file; {path}: {error.strerror}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's `>`
        text = content.decode("utf-16", "replace")
    else:
        # Other encodings keep their bytes, which is how Linux names such a file too.
        text = content.decode("utf-8-sig", "surrogateescape")
    if path == STDIN and "\0" in text:  # as `find -print0` writes them
        return [given for given in text.split("\0") if given], False
    if "\0" in text:
        raise SourceError(f"expected a text file of paths, one per line; {path} is binary")
    if path.lower().endswith(TABLE_SUFFIXES):
        return _column(text, path), False
    lines = (line.strip() for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")], True


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _column(text: str, path: str) -> list[str]:
    head = text.partition("\n")[0]
    between = max(",;\t", key=head.count)  # some spreadsheets write semicolons
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=between)
        if "path" not in (rows.fieldnames or []):
            raise SourceError(
                f"expected a table with the column 'path'; {path} has {rows.fieldnames}; name the "
                "column of the images' paths 'path'"
            )
        return [row["path"].strip() for row in rows if (row["path"] or "").strip()]
    except csv.Error as error:
        raise SourceError(f"expected a table; {path} cannot be read as one: {error}") from error


def listed(
    paths: Iterable[str], folder: str, exclude: Sequence[str] = (), *, patterns: bool = False
) -> tuple[dict[str, str], Skipped]:
    """Files of paths absolute or relative to a folder, in the order given; each of them once.

    Whether a file exists, and whatever its suffix, is not asked here: the user named it, so it is a
    row. Of what a pattern finds, only what is an image by its name is.
    """
    found: dict[str, str] = {}
    skipped = Skipped()
    first: dict[str, str] = {}
    for given, pattern in _expanded(paths, folder, patterns):
        url = is_url(given)
        path = given if url else os.path.join(folder, os.path.expanduser(given))
        key = utf8(without_secrets(given)) if url else _key(given)
        why = _excluded_within(key, exclude) or (pattern and _why_not(given, pattern))
        # To compare only: with links a/../b is not b.
        place = path if url else os.path.normpath(path)
        if place in first:
            why = f"listed before, as {first[place]}"
        if why:
            skipped.add(key, why)
        else:
            first[place] = key = free_key(key, found)
            found[key] = path if url else _on_disk(path)
    return found, skipped


def _excluded_within(key: str, exclude: Sequence[str]) -> str | None:
    """Why a path is left out: for itself or for a folder that it lies in."""
    parts = key.split("/") if exclude else []
    paths = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next(filter(None, (excluded_by(path, exclude) for path in paths)), None)


def _expanded(paths: Iterable[str], folder: str, patterns: bool) -> Iterator[tuple[str, str]]:
    """Each path, and the pattern that it was found by, or nothing."""
    for given in paths:
        path = os.path.expanduser(given)
        # A name may hold brackets itself.
        is_pattern = patterns and glob.has_magic(path) and not is_url(given)
        if not is_pattern or os.path.lexists(os.path.join(folder, path)):
            yield given, ""
            continue
        matches = sorted(glob.glob(path, root_dir=folder, recursive=True))
        files = [match for match in matches if not os.path.isdir(os.path.join(folder, match))]
        yield from ((match, path) for match in files)
        if not files:  # it shows as a file that is not there
            yield given, ""


def _why_not(path: str, pattern: str) -> str | None:
    """Why a pattern did not mean this file: parts of its path that it names itself are meant."""
    found_by_it = set(path.split(os.sep)) - set(pattern.split(os.sep))
    reasons = filter(None, map(why_left_out, sorted(found_by_it)))
    return next(reasons, why_no_image(path))


def _key(given: str) -> str:
    key = utf8(given.replace(os.sep, "/"))
    while key.startswith("./"):
        key = key[2:].lstrip("/")
    return key


def _on_disk(path: str) -> str:
    """The path in the form that the disk has: é is one character or two, and looks the same."""
    if path.isascii() or "\0" in path or os.path.lexists(path):
        return path
    forms = (normalize(form, path) for form in ("NFC", "NFD"))
    return next(filter(os.path.lexists, forms), path)
