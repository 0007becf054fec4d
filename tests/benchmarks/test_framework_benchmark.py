"""What fdseg adds to a bare PyTorch loop, and how soon it answers.

Run with `pytest tests/benchmarks/test_framework_benchmark.py -s -o addopts=`.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
import torch
from commands import compose
from hydra.utils import instantiate
from lightning.pytorch.profilers import SimpleProfiler
from sizes import at_full_size, sized

from fdseg import config as configuration
from fdseg.data.datamodule import SegmentationData
from fdseg.runs import only_process
from fdseg.sweep import make_module

EPOCHS = sized(8, 2)  # of four steps


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Configuration and data of the hippocampus task at its full grid, phantom."""
    where = tmp_path_factory.mktemp("runs")
    words = [
        "data=hippocampus", "data.root=null", "data.phantom.subjects=10", "n=4", f"runs={where}",
        f"trainer.max_epochs={EPOCHS}", f"data.phantom.scale={sized(1.0, 0.4)}",
        "trainer.accelerator=cpu", "trainer.precision=32-true",
    ]  # fmt: skip
    config = configuration.resolve(compose("train", *words))
    config.folder = str(where / "run")
    task = instantiate(config.data, _convert_="all")
    data = SegmentationData(task, config.n, config.seed)
    data.prepare_data()
    data.setup()
    return config, task, data


def bare_loop(config, task, data):
    """Seconds per epoch of the plainest loop over the same network and the same tensors."""
    module = make_module(config, len(task.structures))
    network, loss = module.network.to(memory_format=torch.channels_last_3d), module.loss
    optimizer = module.configure_optimizers()
    items = [data.training[i] for i in range(4)]
    batches = [(i["image"][None], i["label"][None, None] == module.numbers[:, None, None, None])
               for i in items]  # fmt: skip
    seconds = []
    for _ in range(EPOCHS):
        start = perf_counter()
        for image, target in batches:
            optimizer.zero_grad()
            loss(network(image), target.float()).backward()
            optimizer.step()
        seconds.append(perf_counter() - start)
    return seconds[1:]


def with_fdseg(config, task, data):
    """Seconds per epoch of the Trainer with all of fdseg's callbacks, and its profiler."""
    module = make_module(config, len(task.structures))
    profiler = SimpleProfiler()
    callbacks = instantiate(config.callbacks)
    trainer = instantiate(
        config.trainer, callbacks=[*callbacks.values()], logger=False, limit_val_batches=0,
        check_val_every_n_epoch=None, profiler=profiler,
    )  # fmt: skip
    callbacks["best"].monitor = "train/loss"
    with only_process(Path(config.folder)):
        trainer.fit(module, data)
    return [row["seconds"] for row in callbacks["history"].rows][1:], profiler


def test_a_step_costs_at_most_seven_percent_more_than_a_bare_loop(setting, benchmark):
    ours, bare, waits = [], [], []
    for _ in range(sized(4, 1)):
        bare += bare_loop(*setting)
        seconds, profiler = with_fdseg(*setting)
        ours += seconds
        fetches = profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"]
        waits.append(sum(fetches[4:]) / sum(seconds))
    ratio = median(ours) / median(bare)
    print(f"\nstep: bare {median(bare) / 4:.3f} s, fdseg ÷ bare {ratio:.3f}")
    print(f"waiting for data from the second epoch on: {100 * median(waits):.2f} % of the step")
    benchmark.pedantic(bare_loop, setting, rounds=1)
    at_full_size(ratio <= 1.07)
    at_full_size(median(waits) < 0.02)


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_help_answers_within_a_second_and_a_half(words, benchmark):
    def ask():
        subprocess.run(
            [sys.executable, "-m", "fdseg.train", *words], capture_output=True, check=True
        )

    benchmark.pedantic(ask, rounds=sized(7, 1), warmup_rounds=sized(1, 0))
    print(f"\n{' '.join(words)}: {benchmark.stats.stats.median:.2f} s")
    at_full_size(benchmark.stats.stats.median <= 1.5)
