"""In: a path or a URL, s3:// for one. Out: what lies there, opened, or listed with sizes and dates.

What a URL begins with is left to fsspec, and the libraries behind it to those who need them: s3fs,
gcsfs, aiohttp, huggingface_hub and others.
"""

import hashlib
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

from mfavbs.errors import ImageError, SourceError

_URL = re.compile(r"[a-z][a-z0-9+.-]*(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
_TRIES = 4
_WAIT = 0.5  # seconds before the second try, then twice as long each time
_PASSING = (429, 500, 502, 503, 504)  # answers of a server that may be another one soon
# Packages and the settings they look for, by what a URL begins with.
_WANTED = {
    "s3": ("s3fs", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    "gs": ("gcsfs", "GOOGLE_APPLICATION_CREDENTIALS"),
    "gcs": ("gcsfs", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("adlfs", "AZURE_STORAGE_CONNECTION_STRING"),
    "abfs": ("adlfs", "AZURE_STORAGE_CONNECTION_STRING"),
    "http": ("aiohttp", "the user and password that the server asks for"),
    "https": ("aiohttp", "the user and password that the server asks for"),
    "hf": ("huggingface_hub", "HF_TOKEN"),
}
Found = TypeVar("Found")


def is_url(place: str) -> bool:
    """Whether this is a URL and no path."""
    return bool(_URL.match(place))


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment, which may let others in."""
    if not is_url(url):
        return url
    head, _, _ = url.partition("?")
    head, _, _ = head.partition("#")
    scheme, _, rest = head.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, as fsspec knows it, and the path on it.

    Raises
    ------
    SourceError
        No such kind of place is known, or a package for it is missing.
    """
    from fsspec.core import url_to_fs

    shown = without_secrets(url)
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = _WANTED.get(_scheme(url), ("its package", ""))[0]
        raise SourceError(
            f"{shown} needs {package}: pip install {package}, or pip install 'mfavbs[remote]'"
        ) from error
    except ValueError as error:
        raise SourceError(
            f"expected a path or a URL as s3://, gs://, https:// or hf://, got {shown}: nothing "
            "installed reads it; check how it begins"
        ) from error


def open_file(place: str) -> IO[bytes]:
    """Open a file or what lies at a URL for reading at any position."""
    if not is_url(place):
        return open(place, "rb")
    files, path = file_system(place)
    opened = attempt(lambda: files.open(path, "rb"), place)
    return cast(IO[bytes], opened)


def read_url(url: str) -> bytes:
    """All that lies at a URL; `ImageError` where it cannot be had."""
    try:
        files, path = file_system(url)
        return bytes(attempt(lambda: files.cat_file(path), url))
    except (OSError, SourceError) as error:
        raise ImageError(str(error)) from error


def attempt(what: Callable[[], Found], url: str) -> Found:
    """What ``what`` finds at ``url``, tried again where a failure may pass.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        It cannot be had; the text says why, in words that give no secret away.
    """
    for again in range(_TRIES):
        try:
            return what()
        except Exception as error:  # each library has its own: none of them is a traceback's worth
            if again + 1 == _TRIES or not _may_pass(error):
                kind = PermissionError if _is_denied(error) else OSError
                kind = FileNotFoundError if _is_missing(error) else kind
                raise kind(why_not(error, url)) from error
            time.sleep(_WAIT * 2**again)
    raise AssertionError("one of the tries returns or raises")


def why_not(error: BaseException, url: str) -> str:
    """Why something cannot be had from ``url``, and which settings to look at."""
    name = type(error).__name__
    if _is_missing(error):
        return "no such file"
    if _is_denied(error):
        settings = _WANTED.get(_scheme(url), ("", ""))[1]
        return f"access denied ({name}); set {settings or 'the credentials for it'}"
    if isinstance(error, TimeoutError):
        return f"no answer in time ({name})"
    # Its own text may hold the whole URL, with what signs it.
    return f"{name}, after {_TRIES} tries" if _may_pass(error) else name


def _is_missing(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) or _status(error) == 404


def _is_denied(error: BaseException) -> bool:
    named = "Credential" in type(error).__name__
    return named or isinstance(error, PermissionError) or _status(error) in (401, 403)


def _may_pass(error: BaseException) -> bool:
    """Whether the same may go well a moment later: a connection lost, a server too busy."""
    status = _status(error)
    if status is not None:
        return status in _PASSING
    lasting = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    name = type(error).__name__
    passing = isinstance(error, OSError | TimeoutError) or "Client" in name or "Timeout" in name
    return passing and not isinstance(error, lasting) and "Credential" not in name


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None


def stat_of(info: dict[str, Any]) -> tuple[int, float]:
    """Size and time of one entry of a file system's list.

    Where there is no time, a number made from the entry's tag stands for it: it changes with the
    content as well.
    """
    size = int(info.get("size") or 0)
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        found = info.get(name)
        if isinstance(found, datetime):
            return size, found.timestamp()
        if isinstance(found, int | float):
            return size, float(found)
    tag = next((str(info[name]) for name in ("ETag", "etag", "updated") if info.get(name)), "")
    digest = hashlib.blake2b(tag.encode(), digest_size=5).digest()
    return size, float(int.from_bytes(digest, "big")) if tag else 0.0


def _scheme(url: str) -> str:
    return urlsplit(url).scheme.rpartition("::")[2].lower()
