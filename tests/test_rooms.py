"""The house in order: imports point one way, and only through the rooms' front doors."""

import ast
import importlib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).parents[1] / "src" / "mfavbs"
# Each may use those before it. A room or a module that is not here has no place yet: give it one.
ORDER = (
    *(
        "errors",
        "devices",
        "launching",
        "locking",
        "urls",
        "files",
        "memory",
        "progress",
        "metrics",
    ),  # the ground
    *(
        "images",
        "datasets",
        "encoders",
        "features",
        "engines",
        "model",
        "runs",
        "insight",
        "report",
        "review",
    ),
    *(
        "sources",
        "truth",
        "suggesting",
        "duplicates",
        "understanding",
        "recording",
        "training",
        "growing",
        "rehearsing",
        "foretelling",
        "announcing",
        "continuing",
        "updating",
        "cutting",
        "making",
        "clustering",
        "advising",
        "planning",
        "judging",
        "prediction",
        "answering",
        "serving",
        "completing",
        "placing",
        "exporting",
    ),  # the flows that join the rooms
    *("bench", "cli", "__main__"),
)
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
    if path != SRC / "__init__.py"
}
ROOMS = sorted(path.parent.name for path in SRC.glob("*/__init__.py"))


class Import(NamedTuple):
    line: int
    module: str  # without "mfavbs.", and "" for mfavbs itself
    name: str  # "" in ``import module``


def imports(source: str) -> Iterator[Import]:
    """What a module imports from the package, wherever in it: in functions and for types too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, name in found:
            if module == "mfavbs" and name in MODULES:  # from mfavbs import runs
                module, name = f"mfavbs.{name}", ""
            if module == "mfavbs" or module.startswith("mfavbs."):
                yield Import(node.lineno, module.removeprefix("mfavbs").removeprefix("."), name)


def offered(room: str) -> list[str]:
    """The names in ``__all__`` of a room's stub."""
    stub = ast.parse((SRC / room / "__init__.pyi").read_text(encoding="utf-8"))
    for node in stub.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{room}/__init__.pyi has no __all__")


def wrong(here: str, found: Import) -> str | None:
    """Why the module ``here`` may not import that, or None."""
    own, room = here.partition(".")[0], found.module.partition(".")[0]
    if not room:
        return None if found.name == "__version__" else "import it from its room"
    if room == own:
        through_the_door = found.module == room and f"{room}.{found.name}" not in MODULES
        return "within a room, import from the module" if through_the_door else None
    if ORDER.index(room) > ORDER.index(own):
        return f"{room} comes after {own}"
    if found.module != room:
        return f"import it from mfavbs.{room}, whose stub says what others may use"
    if room in ROOMS and found.name and found.name not in offered(room):
        return f"{room}/__init__.pyi does not offer {found.name}"
    return f"{found.name} is private" if found.name.startswith("_") else None


def test_every_module_has_a_place_in_the_order() -> None:
    assert {name.partition(".")[0] for name in MODULES} <= set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_from_earlier_rooms_and_through_their_doors(name: str) -> None:
    found = list(imports(MODULES[name].read_text(encoding="utf-8")))
    mistakes = [f"line {each.line}: {why}" for each in found if (why := wrong(name, each))]
    assert not mistakes, f"{MODULES[name]}: " + "; ".join(mistakes)


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {
            f"{found.module}.{found.name}" if f"{found.module}.{found.name}" in MODULES
            else found.module
            for found in imports(path.read_text(encoding="utf-8"))
        }
        for name, path in MODULES.items()
    }  # fmt: skip
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("here", "line"),
    [
        ("images.opening", "from mfavbs.features import embed"),
        ("images.opening", "def f():\n    from mfavbs import runs"),
        ("features.store", "import mfavbs.images.opening"),
        ("features.store", "from mfavbs.images.opening import open_images"),
        ("features.store", "from mfavbs.images import nonsense"),
        ("features.store", "from mfavbs.files import _private"),
        ("features.store", "from mfavbs.features import embed"),
        ("features.store", "from mfavbs import embed"),
    ],
)
def test_what_is_wrong_is_seen(here: str, line: str) -> None:
    assert all(wrong(here, found) for found in imports(line))
    assert list(imports(line))


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_that_a_room_offers_is_there(room: str) -> None:
    module = importlib.import_module(f"mfavbs.{room}")
    assert sorted(module.__all__) == sorted(offered(room))
    for name in offered(room):
        assert getattr(module, name) is not None
