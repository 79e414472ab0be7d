"""How long encoding takes is told once, by the pace of its first seconds."""

from collections.abc import Iterator

import numpy as np
import pytest

from mfavbs.features import watching
from mfavbs.features.parts import Item, Part
from mfavbs.features.pieces import Seen
from mfavbs.features.watching import Watch


def part(n: int) -> Part:
    made = Part([Item(Seen(str(i), 1, 0.0, str(i), None), None) for i in range(n)])
    made.features = np.zeros((n, 2, 1, 8), np.float16)
    return made


def test_it_is_told_once_by_the_pace_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    times: Iterator[float] = iter([0.0, 10.0, 11.0, 14.0, 17.0, 20.0])
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(times))
    told: list[tuple[float, tuple[int, ...]]] = []
    watch = Watch(lambda *what: told.append(what), 100)
    for _ in range(5):
        watch(part(6))
    # 12 images in the first 11 seconds, then 2 a second: 76 are left after 17.
    assert told == [(17 + 76 / 2, (2, 1, 8))]


def test_nothing_is_told_where_nobody_asks_or_nothing_is_encoded() -> None:
    told: list[object] = []
    watching_nobody, watch = Watch(None, 10), Watch(lambda *what: told.append(what), 10)
    empty = part(2)
    empty.features = None
    for _ in range(5):
        watching_nobody(part(2))
        watch(empty)
    assert told == []
