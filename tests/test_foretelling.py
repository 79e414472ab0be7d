"""Durations and sizes in words, growth between and beyond what was measured."""

import pytest

from mfavbs.foretelling import Sizes, as_stages, disk_of, duration, memory_of, size, told
from mfavbs.growing import growth


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (98, "1 min 40 s"),
        (3597, "59 min 55 s"),
        (3599, "1 h"),
        (7800, "2 h 10 min"),
        (176_400, "2 days 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert [size(n) for n in (1, 52_400_000, 999_000_000, 1_340_000_000)] == [
        *("1 MB", "52 MB", "999 MB", "1.3 GB")
    ]


def test_parts_make_stages_that_add_up() -> None:
    parts = {"training: a": 1.0, "training: b": 2.0, "insight: k": 3.0, "insight: map": 4.0}
    stages = as_stages(parts)
    assert stages == {"training": 3.0, "questions": 3.0, "map": 4.0}
    assert told(2000, (5, 60), {**stages, "features": 65.0}) == (
        "2,000 images, 5 to 60 clusters: about 1 min 15 s "
        "(training 3 s, map 4 s, features 1 min 5 s, …)"
    )


def test_growth_is_of_the_table_and_goes_on_beyond_it() -> None:
    assert growth("unknown", 600, 200) == 3
    for stage in ("insight: trust", "training: start"):
        assert growth(stage, 500, 500) == 1
        assert growth(stage, 10**4, 10**3) * growth(stage, 10**6, 10**4) == pytest.approx(
            growth(stage, 10**6, 10**3)
        )
        assert growth(stage, 10**6, 10**5) >= 1


def test_what_has_no_room_in_memory_lies_on_the_disk_for_a_while() -> None:
    sizes = Sizes(n=10**6, v=2, t=1, f=128, k=100, h=2, d=128, n_new=0, stored=False)
    finished, meanwhile = disk_of(sizes)
    assert disk_of(sizes, 2**40) == (finished, meanwhile)
    assert disk_of(sizes, 2**30) == (finished, finished + 2 * 10**6 * 2 * 128)
    assert memory_of(sizes, 2**29, 2**30) == 2**29 + 2**30
    small = sizes._replace(n=100)
    assert memory_of(small, 2**29, 2**30) < 2**29 + 10**6
