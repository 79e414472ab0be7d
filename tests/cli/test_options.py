"""Words of the command line, as Python has them."""

import pytest
import typer

from mfavbs.cli.options import parsed_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10", 10), ("auto", "auto"), ("5:60", (5, 60)), (" 5 : 60 ", (5, 60)), (None, None)],
)
def test_a_number_of_clusters_is_a_number_a_range_or_auto(text, expected):
    assert parsed_number(text) == expected


@pytest.mark.parametrize("text", ["", "ten", "2.5", "Auto", "5:", ":5", "5:6:7", "5-60"])
def test_another_word_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parsed_number(text)
