"""Measuring pairs: all sides in turn in one process, the median of each."""

from statistics import median
from time import perf_counter

import pytest


@pytest.fixture
def medians():
    """Call functions in turn, round by round, and give each one's median seconds."""

    def measure(functions, rounds, warmup=2):
        seconds = {name: [] for name in functions}
        for _ in range(warmup + rounds):
            for name, function in functions.items():
                start = perf_counter()
                function()
                seconds[name].append(perf_counter() - start)
        return {name: median(values[warmup:]) for name, values in seconds.items()}

    return measure
