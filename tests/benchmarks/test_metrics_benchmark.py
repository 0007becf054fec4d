"""HD95 against MONAI's on a left atrium in its volume, and on the worst prediction of it.

Run with `pytest tests/benchmarks/test_metrics_benchmark.py -s -o addopts=`.
"""

from statistics import median
from time import perf_counter

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance
from sizes import at_full_size, sized

from fdseg.metrics import hd95

SHAPE = sized((320, 320, 128), (80, 80, 32))
SPACING = sized((1.25, 1.25, 1.37), (5.0, 5.0, 5.48))


def atrium(centre, bumps, phase):
    """An ellipsoid of about 84 mL with a wavy surface."""
    position = zip(
        np.indices(SHAPE, sparse=True), np.multiply(centre, sized(1, 0.25)), SPACING, strict=True
    )
    x, y, z = ((index - middle) * side for index, middle, side in position)
    wave = bumps * np.sin(x / 6 + phase) * np.sin(y / 7) * np.cos(z / 5 + phase)
    return np.sqrt((x / 32) ** 2 + (y / 25) ** 2 + (z / 25) ** 2) < 1 + wave


def monai_hd95(prediction, label):
    batch = (torch.from_numpy(mask)[None, None] for mask in (prediction, label))
    found = compute_hausdorff_distance(
        *batch, include_background=True, percentile=95, spacing=SPACING
    )
    return found.item()


def median_seconds(measure, rounds):
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        measure()
        seconds.append(perf_counter() - start)
    return median(seconds)


def compare(name, ours, theirs, rounds):
    assert ours() == pytest.approx(theirs(), rel=1e-5)
    our_seconds, their_seconds = median_seconds(ours, sized(9, 1)), median_seconds(theirs, rounds)
    ratio = our_seconds / their_seconds
    print(
        f"\n{name}: fdseg {our_seconds * 1e3:.1f} ms, MONAI {their_seconds * 1e3:.1f} ms, "
        f"ratio {ratio:.3f}"
    )
    return ratio


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_hd95_of_an_atrium_takes_at_most_three_quarters_of_monais_time(benchmark):
    label = atrium((160, 150, 64), bumps=0.10, phase=0)
    prediction = atrium((162, 149, 65), bumps=0.12, phase=1)

    def ours(definition="max_of_directed"):
        return hd95(prediction, label, SPACING, definition)

    ratio = compare("atrium", ours, lambda: monai_hd95(prediction, label), rounds=5)
    benchmark(ours, "pooled")
    at_full_size(ratio <= 0.75)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_noise_all_over_the_volume_is_no_slower_than_in_monai(benchmark):
    label = atrium((160, 150, 64), bumps=0.10, phase=0)
    prediction = np.random.default_rng(0).random(SHAPE) < 1e5 / label.size  # 10^5 surface voxels

    def ours(definition="max_of_directed"):
        return hd95(prediction, label, SPACING, definition)

    ratio = compare("noise", ours, lambda: monai_hd95(prediction, label), rounds=1)
    benchmark.pedantic(ours, ("pooled",), rounds=5)
    at_full_size(ratio <= 1)
