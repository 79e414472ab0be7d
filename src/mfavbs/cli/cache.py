"""The command `mfavbs cache`: parses, calls, prints."""

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfavbs.cli.options import CacheOption, JsonOption, QuietOption
from mfavbs.cli.output import print_json, unless

if TYPE_CHECKING:
    from mfavbs.features import CacheFile, Copy

_GB = 1e9
_NAMED = ("encoder", "image_size", "n_views", "augment", "grid", "precision", "seed")


def cache(
    cache: CacheOption = None,
    max_age: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Remove what has not been of use for so long."),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            metavar="GB", min=0, help="Remove what was of use the longest ago; 0 removes all."
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the features that runs share, and the copies of stores at URLs, and prune them."""
    say = unless(quiet)
    from mfavbs.features import cache_folder, list_cache, list_copies, prune

    folder = cache_folder(cache) or cache_folder("auto")
    assert folder is not None, "auto is always somewhere"
    before = _size(list_cache(folder)) + _size(list_copies(folder))
    if max_age is not None or max_size is not None:
        prune(folder, max_age=max_age, max_size=None if max_size is None else _GB * max_size)
    files, copies = list_cache(folder), list_copies(folder)
    size = _size(files) + _size(copies)
    freed = before - size
    for file in files:
        say(_line(file))
    for copy in copies:
        used = _date(copy.used)[:10]
        say(f"copy of {copy.url}: {_megabytes(copy.n_bytes)}, last of use on {used}")
    say(f"{_megabytes(size)} in {folder}" + f", {_megabytes(freed)} removed" * bool(freed))
    about: dict[str, Any] = {"cache": str(folder), "bytes": size, "removed_bytes": freed}
    about["files"] = [_described(file) for file in files]
    about["copies"] = [
        {"url": copy.url, "bytes": copy.n_bytes, "last_use": _date(copy.used)} for copy in copies
    ]
    print_json(about, as_json)


def _size(files: "list[CacheFile] | list[Copy]") -> int:
    return sum(file.n_bytes for file in files)


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def _line(file: "CacheFile") -> str:
    if file.recipe is None:
        return f"damaged, to be made again when it is needed: {file.path.name}"
    made_by = {name: file.recipe.get(name) for name in _NAMED}
    augment = made_by["augment"] or "default"
    views = f"{made_by['n_views']} views" + ("" if augment == "default" else f" ({augment})")
    grid = f", grid {made_by['grid']}" if made_by["grid"] else ""
    return (
        f"{made_by['encoder']}, {made_by['image_size']} px, {views}{grid}, "
        f"{made_by['precision']}, seed {made_by['seed']}: {file.n_entries:,} images, "
        f"{_megabytes(file.n_bytes)}, last of use on {_date(file.used)[:10]}"
    )


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _described(file: "CacheFile") -> dict[str, Any]:
    return {
        "file": file.path.name,
        **{name: (file.recipe or {}).get(name) for name in _NAMED},
        "damaged": file.recipe is None,
        "n_images": file.n_entries,
        "bytes": file.n_bytes,
        "last_use": _date(file.used),
    }
