"""How many runs an hour several processes finish, against one that has all threads.

Run with `pytest tests/benchmarks/test_sweep_benchmark.py -s -o addopts=`.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sizes import at_full_size, sized

WORKER = """
import sys, time
sys.path.insert(0, {folder!r})
from test_step_benchmark import training_step
step = training_step("early", {size!r})
for _ in range(3): step()
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
for _ in range({steps}): step()
print(time.perf_counter() - start, flush=True)
"""


def seconds_per_step(processes: int, threads: int, steps: int = sized(20, 2)) -> float:
    """Of each of several processes at work together, on hippocampus-sized volumes."""
    code = WORKER.format(
        folder=str(Path(__file__).parent), steps=steps, size=sized((56, 56, 40), (16, 16, 12))
    )
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "5000"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(processes)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout.readline().strip() == "ready"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    times = [float(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.wait()
    return max(times) / steps


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_two_processes_of_one_thread_finish_more_runs_than_one_of_two(benchmark):
    ratios = []
    for _ in range(sized(5, 1)):
        together = seconds_per_step(processes=1, threads=2)
        apart = seconds_per_step(processes=2, threads=1)
        ratios.append(2 * together / apart)
    ratio = statistics.median(ratios)
    print(f"\nruns per hour, two processes of one thread ÷ one of two: {ratio:.2f} {ratios}")
    benchmark.pedantic(lambda: None, rounds=1)
    at_full_size(ratio >= 1.15)


def test_a_finished_sweep_is_repeated_in_seconds(tmp_path, benchmark):
    words = [
        sys.executable, "-m", "fdseg.train", "-m", "+sweep=smoke", "n=1",
        f"seed=range({sized(4, 1)})", "trainer.max_epochs=1", "data.phantom.scale=0.5",
        f"runs={tmp_path}",
    ]  # fmt: skip
    for name in ("first", "again"):
        start = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        print(f"\n{name}: {time.perf_counter() - start:.1f} s")
    runs = sized(12, 3)
    assert f"{runs} runs: {runs} done" in done.stdout
    benchmark.pedantic(lambda: None, rounds=1)
    at_full_size(time.perf_counter() - start < 10)
