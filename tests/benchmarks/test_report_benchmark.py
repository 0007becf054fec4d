"""How long a report takes, how much memory, and how large its page is.

Run with `pytest tests/benchmarks/test_report_benchmark.py -s -o addopts=`.
"""

import resource
import subprocess
import sys
from time import perf_counter

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sizes import at_full_size, sized
from synthetic import Grid, paper_grid

from fdseg.report.overlay import overlay


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Overlays of three volumes of the hippocampus task's size, as textured as MRI."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for rank in ("worst", "median", "best"):
        image = gaussian_filter(rng.normal(size=(35, 50, 35)), 1.2)
        low = gaussian_filter(image, 5)
        label, prediction = (gaussian_filter(rng.normal(size=image.shape), 4) > 0.03 for _ in "ab")
        overlay(
            folder / f"{rank}.png", image=image, bands={"low": low, "high": image - low},
            label=label.astype(np.uint8), prediction=prediction.astype(np.uint8),
            spacing_mm=(1, 1, 1), structures=["anterior"], title="hippocampus_001",
        )  # fmt: skip
    return sorted(folder.iterdir())


def report(root):
    """Seconds, the processor's seconds and the peak memory in MiB of the command, and its page."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fdseg.report", f"runs={root}"], capture_output=True, check=True
    )
    seconds, after = perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, busy, after.ru_maxrss / 1024, root / "report" / "report.html"


def test_510_runs_are_reported_within_20_seconds_and_a_gigabyte(tmp_path, pictures, benchmark):
    seeds = sized(10, 2)
    assert len(paper_grid(tmp_path, seeds, epochs=300, pictures=pictures)) == 51 * seeds
    seconds, busy, peak, page = benchmark.pedantic(report, (tmp_path,), rounds=1)
    size = page.stat().st_size / 2**20
    print(f"\n{51 * seeds} runs: {seconds:.1f} s, of them {busy:.1f} s of a processor")
    print(f"{peak:.0f} MiB of memory, a page of {size:.1f} MiB")
    at_full_size(seconds < 20)
    assert peak < 1024


def test_the_page_of_30_runs_is_under_8_megabytes(tmp_path, pictures, benchmark):
    grid = Grid(tmp_path, "hippocampus", epochs=300, pictures=pictures)
    for fusion in ("none", "early", "late"):
        grid.cell(fusion, 4, 10)
    seconds, busy, _, page = benchmark.pedantic(report, (tmp_path,), rounds=1)
    size = page.stat().st_size / 1e6
    text = page.read_text()
    print(f"\n30 runs: {seconds:.1f} s, of them {busy:.1f} s of a processor")
    print(f"page {size:.1f} MB with {text.count('image/webp')} overlays")
    assert size < 8
    assert text.count("image/webp") == 90
