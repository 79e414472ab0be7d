"""In: messages with Python's words. Out: the command line's, and nothing else touched."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

import mfavbs
from mfavbs.cli.app import app
from mfavbs.cli.words import as_options, flags_of


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Give another out=, or overwrite=True.", "Give another --out, or --overwrite."),
        ("Give another out=.", "Give another --out."),
        ("n_clusters=1 should be >= 2.", "-k 1 should be >= 2."),
        ("image_size=None, now image_size=8", "no --image-size, now --image-size 8"),
        ("encoder='a:b c', n_views=3; n_workers=0", "--encoder a:b c, --views 3; --workers 0"),
        ("drop labels_from_folders=, or", "drop --labels-from-folders, or"),
        ("weights_hash=ab, now n_samples=3", "weights_hash=ab, now n_samples=3"),
        ("a/seed=1.png, 'grid=2.png', x.out=3", "a/seed=1.png, 'grid=2.png', x.out=3"),
    ],
)  # fmt: skip
def test_arguments_are_named_as_they_are_given(message: str, expected: str) -> None:
    assert as_options(message, flags_of(get_command(app))) == expected


SRC = Path(mfavbs.__file__).parent


def test_messages_are_written_in_pythons_words() -> None:
    """Outside of this room an option in a text would be one in a Python caller's error.

    What stands in backticks is a command to type; and what stands in brackets goes with the image
    into a table, which both may read.
    """
    found = []
    for path in SRC.rglob("*.py"):
        if path.parent.name == "cli":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub(r"`[^`]*`", "", node.value)
                if id(node) not in docs and re.search(r"(^|[\s\"'])--[a-z]", text):
                    found.append(f"{path.relative_to(SRC)}:{node.lineno}: {node.value}")
    assert not found
