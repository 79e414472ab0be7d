"""How the seconds of each stage grow with the number of images.

In: a stage, numbers of images. Out: how many times as long it takes.

How they grow is taken from one machine, how large they are is measured where it is asked. The table
is what ``benchmarks/planning.py --growth`` prints.
"""

import math

import numpy as np

NUMBERS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
STEP = 0.036  # of training, on that machine
NUMBER = "number of clusters"
STAGES = {
    NUMBER: (0.28, 0.75, 3.0, 4.6, 6.2, 6.9, 7.5),
    "training: copies": (0.002, 0.004, 0.014, 0.033, 0.12, 0.36, 1.2),
    "training: projection": (0.055, 0.071, 0.17, 0.37, 1.1, 2.1, 4.5),
    "training: neighbours": (0.001, 0.003, 0.012, 0.079, 0.64, 7.1, 26.0),
    "training: start": (0.018, 0.02, 0.048, 0.096, 0.28, 1.2, 4.0),
    "training: answers": (0.021, 0.053, 0.17, 0.44, 2.0, 12.0, 42.0),
    "insight: looking": (0.018, 0.048, 0.16, 0.46, 1.8, 4.7, 16.0),
    "insight: trust": (0.19, 0.21, 0.46, 1.2, 5.2, 7.8, 9.0),
    "insight: outliers": (0.005, 0.014, 0.09, 0.62, 2.1, 4.6, 12.0),
    "insight: copies": (0.013, 0.029, 0.13, 0.4, 2.4, 27.0, 100.0),
    "insight: k": (0.28, 0.75, 3.0, 4.6, 6.2, 6.9, 7.5),
    "insight: hierarchy": (0.049, 0.11, 0.46, 0.66, 1.4, 2.9, 6.0),
    "insight: membership": (0.005, 0.01, 0.046, 0.29, 0.55, 0.74, 0.9),
    "insight: map": (0.13, 0.45, 1.9, 5.5, 6.5, 6.5, 7.5),
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
