"""What all tests need: that Ctrl-C can end what they start, and how many kills are tried."""

import signal
from collections.abc import Callable

import numpy as np
import pytest

# A shell lets background jobs ignore it, and they pass that on to the processes they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=3, help="moments that each test of kills tries; 0: every one"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture
def kill_points(request: pytest.FixtureRequest) -> Callable[[int], list[int]]:
    """Of so many touches of the disk a seeded sample, or with ``--kills 0`` every one."""

    def sample(touches: int) -> list[int]:
        size = min(request.config.getoption("--kills") or touches, touches)
        drawn = np.random.default_rng(0).choice(touches, size, replace=False)
        return sorted((drawn + 1).tolist())

    return sample
