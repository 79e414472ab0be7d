"""How the seconds of each stage grow with the number of images.

In: a stage, numbers of images. Out: how many times as long it takes.

How they grow is taken from one machine, how large they are is measured where it is asked. The table
is what ``benchmarks/planning.py --growth`` prints, and for the last number ten times as many as the
one before what ``benchmarks/growing.py`` found between them; the map's is drawn on.
"""

import math

import numpy as np

NUMBERS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 1_000_000)
STEP = 0.035  # of training, on that machine
NUMBER = "number of clusters"
STAGES = {
    NUMBER: (0.44, 0.71, 3.1, 4.4, 4.4, 3.9, 4.1, 4.7),
    "training: copies": (0.001, 0.003, 0.009, 0.029, 0.12, 0.37, 0.84, 8.5),
    "training: projection": (0.047, 0.063, 0.13, 0.3, 0.88, 2.4, 4.9, 34.0),
    "training: neighbours": (0.001, 0.002, 0.009, 0.065, 0.59, 5.8, 24.0, 270.0),
    "training: start": (0.013, 0.017, 0.033, 0.085, 0.24, 1.0, 7.1, 7.1),
    "training: answers": (0.021, 0.048, 0.15, 0.47, 1.5, 8.0, 32.0, 170.0),
    "insight: looking": (0.019, 0.05, 0.16, 0.49, 1.4, 4.0, 14.0, 150.0),
    "insight: trust": (0.18, 0.18, 0.42, 1.3, 4.8, 4.2, 4.3, 7.2),
    "insight: outliers": (0.005, 0.015, 0.079, 0.65, 2.2, 4.4, 10.0, 88.0),
    "insight: copies": (0.012, 0.023, 0.093, 0.36, 2.3, 16.0, 74.0, 530.0),
    "insight: k": (0.44, 0.71, 3.1, 4.4, 4.4, 3.9, 4.1, 4.7),
    "insight: hierarchy": (0.068, 0.11, 0.31, 0.78, 1.4, 1.9, 5.3, 26.0),
    "insight: membership": (0.006, 0.015, 0.046, 0.23, 0.59, 0.45, 0.57, 0.57),
    "insight: map": (0.14, 0.41, 1.9, 5.0, 5.6, 5.5, 7.8, 16.0),
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
