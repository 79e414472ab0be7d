"""Progress: a bar on a terminal, plain lines elsewhere, nothing for what is quick or not shown."""

import io

import pytest
from rich.console import Console

import mfavbs.progress
from mfavbs.progress import Progress


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(mfavbs.progress, "time", clock)
    return clock


def steps(clock, seconds, **options):
    with Progress("embedding", 100, "images", **options) as progress:
        for _ in range(4):
            clock.now += seconds
            progress.advance(20)


def test_a_quick_step_prints_nothing(clock, capfd):
    steps(clock, 1)
    assert capfd.readouterr() == ("", "")


def test_a_long_step_prints_plain_lines_on_stderr(clock, capfd):
    steps(clock, 11)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "embedding: 20 of 100 images, 2 images/s, 44 s left"
    assert lines[-1] == "embedding: 80 of 100 images"
    assert len(lines) == 5
    assert "\x1b" not in err


def test_a_resumed_step_counts_the_rate_from_where_it_goes_on(clock, capfd):
    steps(clock, 11, done=20)
    assert capfd.readouterr().err.startswith("embedding: 40 of 100 images, 2 images/s, 33 s left")


def test_not_shown(clock, capfd):
    steps(clock, 60, show=False)
    assert capfd.readouterr() == ("", "")


def test_a_note_replaces_the_rate(clock, capfd):
    with Progress("training", 10, "epochs") as progress:
        clock.now += 20
        progress.advance(note="loss 4.3 [not markup]")
    assert "1 of 10 epochs, loss 4.3 [not markup], 180 s left" in capfd.readouterr().err


def test_a_bar_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        mfavbs.progress,
        "Console",
        lambda **_: Console(file=screen, force_terminal=True, width=120),
    )
    with Progress("training", 10, "epochs") as progress:
        progress.advance(10, note="loss [x]")
    assert "10/10" in screen.getvalue()
    assert "loss [x]" in screen.getvalue()


def test_an_error_passes_through(clock):
    with pytest.raises(KeyboardInterrupt):
        with Progress("embedding", 10, "images"):
            raise KeyboardInterrupt
