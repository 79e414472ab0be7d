"""Every command, killed or without room on the disk at some of its file operations.

``benchmarks/kills.py`` does the same at each of them.
"""

import random

import pytest
from interrupting import COMMANDS, Ground, check_cut, cut


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("interrupted"))


@pytest.mark.parametrize("command", COMMANDS)
def test_cut_off_the_same_command_goes_on_to_the_same_answer(command: str, ground: Ground) -> None:
    out = ground.folder / "out"
    ground.begin(command, out)
    whole, operations = cut(ground.arguments(command, out), ground.folder, out, None)
    assert whole.code == 0, whole.err
    assert len(operations) > 5, operations
    answer = ground.answer(command, out)
    seeded = random.Random(command)
    ends = [1, len(operations) - 1]  # where it went wrong once
    for how in ("kill", "full"):
        for at in {seeded.choice(ends), seeded.randrange(len(operations))}:
            check_cut(ground, command, at, how, answer)
