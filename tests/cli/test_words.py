"""In: messages with Python's words. Out: the command line's, and nothing else touched."""

import pytest

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
    assert as_options(message, flags_of(app)) == expected
