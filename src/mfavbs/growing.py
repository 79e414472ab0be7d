"""How the seconds of each stage grow with the number of images.

In: a stage, numbers of images. Out: how many times as long it takes.

How they grow is taken from one machine, how large they are is measured where it is asked. The table
is what ``benchmarks/planning.py --growth`` prints.
"""

import math

import numpy as np

NUMBERS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
STEP = 0.027  # of training, on that machine
NUMBER = "number of clusters"
STAGES = {
    NUMBER: (1.3, 3.0, 4.8, 5.2, 5.4, 5.6, 6.0),
    "training: copies": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    "training: projection": (0.8, 0.9, 1.3, 2.4, 6.0, 15.0, 27.0),
    "training: neighbours": (0.001, 0.003, 0.02, 0.12, 1.2, 8.0, 30.0),
    "training: start": (0.05, 0.09, 0.25, 0.7, 2.4, 8.0, 30.0),
    "training: answers": (0.05, 0.1, 0.3, 0.8, 3.0, 15.0, 60.0),
    "insight: looking": (0.05, 0.07, 0.1, 0.2, 0.6, 1.6, 4.7),
    "insight: trust": (0.5, 0.6, 0.8, 1.8, 5.0, 5.1, 5.5),
    "insight: outliers": (0.03, 0.04, 0.12, 0.5, 2.2, 6.0, 13.0),
    "insight: copies": (0.1, 0.2, 0.5, 1.5, 5.0, 17.0, 60.0),
    "insight: k": (1.3, 3.0, 4.8, 5.2, 5.4, 5.6, 6.0),
    "insight: hierarchy": (0.4, 0.6, 0.8, 1.0, 1.8, 3.0, 5.3),
    "insight: membership": (0.03, 0.05, 0.1, 0.25, 0.45, 0.5, 0.6),
    "insight: map": (0.3, 0.6, 2.0, 4.5, 4.9, 5.2, 5.9),
}


def growth(stage: str, n: int, m: int) -> float:
    """How many times as long a stage takes with n images as with m."""
    return seconds_there(stage, n) / seconds_there(stage, m)


def seconds_there(stage: str, n: int) -> float:
    """Seconds on the machine of the table; what it does not have grows as the images do."""
    if stage not in STAGES:
        return float(n)
    x, y = np.log(NUMBERS), np.log(STAGES[stage])
    at = math.log(n)
    slope = (y[-1] - y[-2]) / (x[-1] - x[-2])
    return float(np.exp(np.interp(at, x, y) + slope * max(0.0, at - x[-1])))
