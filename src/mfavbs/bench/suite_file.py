"""What a suite compares, as a file says it.

In: a TOML file of sets, encoders, methods and seeds. Out: the same, every path found.

Nothing heavy is imported: what cannot be done is refused at once.
"""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from mfavbs.bench.methods import check_methods
from mfavbs.datasets import DATASETS
from mfavbs.encoders import Names, Weights, check_encoder, encoder_name
from mfavbs.errors import SourceError
from mfavbs.features import is_store
from mfavbs.files import user_path
from mfavbs.images import views_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIGITS = "digits"  # scikit-learn's
_OF_SUITE = {
    **{"data": str, "weights": str, "views": int, "limit": int, "seeds": list, "methods": list},
    **{"reference": str, "sets": list, "encoders": list},
}
_OF_SET = {
    **{"name": str, "source": str, "group": str, "k": int},
    **{"image_size": int, "augment": str, "encoder": str},
}
_OF_ENCODER: dict[str, Any] = {"name": (str, list), "weights": (str, list), "label": str}
_IN_WORDS: dict[Any, str] = {
    **{str: "text", int: "a number", list: "a list", dict: "a table"},
    (str, list): "text or a list of texts",
}
_OF_METHOD = {"name": str, "label": str, "parameters": dict, "seeds": list}


class SuiteSet(NamedTuple):
    """Images with labels, or a feature store of them."""

    name: str
    source: str  # a path, the name of a data set, or "digits"
    group: str  # sets of one group count as one
    image_size: int | None
    augment: str
    k: int | None  # None: the number of labels
    encoder: str | None  # its only one; what a store's is called


class SuiteEncoder(NamedTuple):
    """One encoder, or several side by side."""

    label: str
    name: Names
    weights: Weights


class SuiteMethod(NamedTuple):
    """A method of `mfavbs bench`, with parameters of the estimator where it is mfavbs."""

    label: str
    name: str
    parameters: dict[str, Any]
    seeds: list[int]


class Suite(NamedTuple):
    """What is compared; ``cells`` are the pairs of a set and an encoder."""

    cells: list[tuple[SuiteSet, SuiteEncoder]]
    methods: list[SuiteMethod]
    reference: str  # label of the method that the others are compared with
    n_views: int
    limit: int | None  # images of a set, at most
    data: Path


def read_suite(
    path: str | Path, data: str | Path | None = None, weights: str | Path | None = None
) -> Suite:
    """Read a suite's file and find what it names.

    Parameters
    ----------
    path
        The file.
    data, weights
        Folders of the sets and of the encoders' weights, instead of those that the file names.

    Raises
    ------
    SourceError
        The file is missing, is no TOML, has a key or a method that there is not, or names a set
        that is nowhere.
    EncoderError
        An encoder cannot be had so.
    """
    path = user_path(path)
    content = _checked(_toml(path), _OF_SUITE, f"{path}", ("sets", "methods"))
    seeds = _seeds(content.get("seeds", [0, 1, 2]), f"{path}")
    methods = [_method(entry, seeds, f"{path}") for entry in content["methods"]]
    labels = [method.label for method in methods]
    _once(labels, "method", path)
    reference = content.get("reference", labels[0] if labels else "")
    if reference not in labels:
        raise SourceError(f"{path}: reference={reference!r} should be one of {', '.join(labels)}")
    for name, least in (("views", 1), ("limit", 2)):
        if content.get(name, least) < least:
            raise SourceError(f"{path}: {name}={content[name]} should be >= {least}")
    folder = user_path(data) if data else path.parent / user_path(content.get("data", "."))
    if weights is None:
        weights = path.parent / user_path(content.get("weights", content.get("data", ".")))
    encoders = [_encoder(e, user_path(weights), path) for e in content.get("encoders", [])]
    _once([encoder.label for encoder in encoders], "encoder", path)
    sets = [_set(entry, folder, path) for entry in content["sets"]]
    _once([wanted.name for wanted in sets], "set", path)
    cells = [(s, e) for s in sets for e in _encoders_of(s, encoders, path)]
    return Suite(cells, methods, reference, content.get("views", 5), content.get("limit"), folder)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(
            f"{path} cannot be read: {error.strerror or error}; expected the file of a suite, "
            "a TOML file with sets and methods"
        ) from error
    except ValueError as error:
        raise SourceError(f"{path} is no TOML file: {error}") from error


def _checked(
    entry: Any,
    types: Mapping[str, Any],
    where: str,
    needed: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A table whose keys are known and whose values are of their type."""
    if not isinstance(entry, dict):
        raise SourceError(f"{where}: expected a table with {', '.join(types)}; got {entry!r}")
    for key, value in entry.items():
        if key not in types:
            close = get_close_matches(key, types, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise SourceError(f"{where}: no key {key!r}; expected {', '.join(types)}.{hint}")
        if not isinstance(value, types[key]) or isinstance(value, bool):
            kind = _IN_WORDS[types[key]]
            raise SourceError(f"{where}: {key} should be {kind}, got {value!r}")
    for key in needed:
        if not entry.get(key):
            raise SourceError(f"{where}: there is no {key}; give one at least")
    return entry


def _seeds(seeds: list, where: str) -> list[int]:
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise SourceError(
            f"{where}: seeds should be a list of numbers, as [0, 1, 2]; got {seeds!r}"
        )
    return list(dict.fromkeys(seeds))


def _once(names: list[str], kind: str, path: Path) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SourceError(f"{path}: two are called {kind} {name!r}; give one another name")


def _method(entry: Any, seeds: list[int], where: str) -> SuiteMethod:
    entry = {"name": entry} if isinstance(entry, str) else entry
    entry = _checked(entry, _OF_METHOD, f"{where}, methods", ("name",))
    name, parameters = entry["name"], entry.get("parameters", {})
    check_methods([name])
    if parameters and name != "mfavbs":
        raise SourceError(f"{where}: parameters are for mfavbs alone, not for {name}")
    own = _seeds(entry.get("seeds", seeds), f"{where}, {name}")
    return SuiteMethod(entry.get("label", name), name, parameters, own)


def _encoder(entry: Any, weights: Path, path: Path) -> SuiteEncoder:
    entry = _checked(entry, _OF_ENCODER, f"{path}, encoders", ("name",))
    name, files = entry["name"], entry.get("weights")
    for texts in (name, files):
        if isinstance(texts, list) and not all(isinstance(text, str) for text in texts):
            raise SourceError(f"{path}, encoders: {texts!r} should be a list of texts")
    if isinstance(files, list):
        files = [file if file == "-" else weights / user_path(file) for file in files]
    elif files is not None:
        files = weights / user_path(files)
    check_encoder(name, weights=files)
    return SuiteEncoder(entry.get("label", encoder_name(name)), name, files)


def _set(entry: Any, folder: Path, path: Path) -> SuiteSet:
    entry = _checked(entry, _OF_SET, f"{path}, sets", ("source",))
    source = str(entry["source"])
    there = folder / user_path(source)
    if not there.exists() and source not in (DIGITS, *DATASETS):
        close = get_close_matches(source, [DIGITS, *DATASETS], 1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise SourceError(
            f"{path}: no set {source!r}: {there} does not exist, and no data set has that name."
            f"{hint} Give the folder of the sets by data=, or take the set out of the file."
        )
    views_of(entry.get("augment", "default"), 5)
    name = entry.get("name", Path(source).name.removesuffix(".tar"))
    if not name or set(name) & set('/\\:*?"<>|\0'):
        raise SourceError(f"{path}: name={name!r} should be fit for the name of a folder")
    return SuiteSet(
        name,
        str(there) if there.exists() else source,
        entry.get("group", name),
        entry.get("image_size"),
        entry.get("augment", "default"),
        entry.get("k"),
        entry.get("encoder"),
    )


def _encoders_of(wanted: SuiteSet, encoders: list[SuiteEncoder], path: Path) -> list[SuiteEncoder]:
    """All of the suite's; the set's own where it names one; of a store, what it was made with."""
    if is_store(wanted.source):
        return [SuiteEncoder(wanted.encoder or "as stored", "", None)]
    found = encoders
    if wanted.encoder is not None:
        named = [e for e in encoders if wanted.encoder in (e.label, e.name)]
        found = named or [SuiteEncoder(wanted.encoder, wanted.encoder, None)]
    if not found:
        raise SourceError(
            f"{path}: there is no encoder for {wanted.name}; give one in [[encoders]]"
        )
    for encoder in found:
        check_encoder(encoder.name, weights=encoder.weights, image_size=wanted.image_size)
    return found
