"""What the runs of a sweep cost in time: what is left of one, and what a whole one would take."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from fdseg.config import check_values
from fdseg.runs import duration
from fdseg.sweep import Point, configurations, make_module
from fdseg.terminal import counted


def training_steps(config: DictConfig) -> int:
    """Optimiser steps of a whole run."""
    return config.trainer.max_epochs * math.ceil(config.n / config.loader.batch_size)


def remaining(points: Sequence[Point]) -> str:
    """Time used by the runs of a sweep, and an estimate of the time that the rest will take.

    Training counts per step and everything else per run, each from the runs of the same task and
    backbone that are done or at work.
    """
    used = sum(sum(p.state.seconds.values()) for p in points)
    rates: dict[tuple[str, str], list[float]] = {}
    others: dict[tuple[str, str], list[float]] = {}
    for point in points:
        if point.run and (seconds := point.state.seconds.get("training")):
            done = training_steps(point.run.config)
            if point.state.name != "done":
                done = round(done * point.state.epochs / point.run.config.trainer.max_epochs)
            rates.setdefault(_kind(point), []).append(seconds / max(done, 1))
        if point.state.name == "done":
            rest = sum(point.state.seconds.values()) - point.state.seconds.get("training", 0)
            others.setdefault(_kind(point), []).append(rest)
    left, unknown = 0.0, 0
    for point in points:
        if point.state.name in ("done", "failed") or point.run is None:
            continue
        if _kind(point) not in rates:
            unknown += 1
            continue
        part = 1 - point.state.epochs / point.run.config.trainer.max_epochs
        left += part * training_steps(point.run.config) * statistics.median(rates[_kind(point)])
        left += statistics.median(others.get(_kind(point), [0]))
    text = f"used {duration(used)}"
    if left:
        workers = sum(p.state.name == "running" for p in points)
        text += f", left about {duration(left)}"
        text += f" ({duration(left / workers)} with {workers} at a time)" if workers > 1 else ""
    if unknown:
        text += (
            f"; {counted(unknown, 'run')} without another of its kind to judge by (--cost measures)"
        )
    return text


def _kind(point: Point) -> tuple[str, str]:
    config = point.run.config  # type: ignore[union-attr]
    return config.data.name, config.backbone.name


def cost(words: Sequence[str]) -> None:
    """Measure steps at the tasks' own sizes and print what all runs of the sweeps would take.

    Args:
        words: overrides; ``+sweep=a,b`` stands for several sweeps after each other.
    """
    total, runs, measured = 0.0, 0, {}
    print(f"  {'task':<18}{'fusion':<10}{'size':<13}{'step':>9}{'case':>9}{'runs':>6}{'all':>10}")
    for config_group in _groups(words):
        config = config_group[0]
        key = str((list(config.data.size), len(config.data.structures), config.network))
        if key not in measured:
            measured[key] = _measure(config)
        step, case = measured[key]
        seconds = sum(_run_seconds(c, step, case) for c in config_group)
        total, runs = total + seconds, runs + len(config_group)
        size = "×".join(map(str, config.data.size))
        print(
            f"  {config.data.name:<18}{config.fusion.name:<10}{size:<13}{step:>7.2f} s"
            f"{case:>7.2f} s{len(config_group):>6}{duration(seconds):>10}",
            flush=True,
        )
    print(
        f"{counted(runs, 'run')}: about {duration(total)} one after the other on this machine "
        "(training steps and the forward passes of validation and test)"
    )


def _groups(words: Sequence[str]) -> Iterator[list[DictConfig]]:
    """The configurations of the sweeps, those that cost the same per step together."""
    sweeps = [word.partition("=")[2] for word in words if word.startswith("+sweep=")]
    rest = [word for word in words if not word.startswith("+sweep=")]
    names = [name for sweep in sweeps for name in sweep.split(",")]
    groups: dict[str, list[DictConfig]] = {}
    for chosen in [[f"+sweep={name}", *rest] for name in names] or [rest]:
        for _, _, config in configurations(chosen):
            check_values(config)
            key = str((config.data.name, config.network, config.loader.batch_size))
            groups.setdefault(key, []).append(config)
    yield from groups.values()


def _run_seconds(config: DictConfig, step: float, case: float) -> float:
    split, trainer = config.data.split, config.trainer
    validations = trainer.max_epochs // min(trainer.check_val_every_n_epoch, trainer.max_epochs)
    return training_steps(config) * step + case * (validations * split.validation + split.test)


def _measure(config: DictConfig) -> tuple[float, float]:
    """Seconds of a training step and of predicting a case, on noise of the task's size."""
    import torch

    structures, size = len(config.data.structures), list(config.data.size)
    if config.network.fusion == "none":
        config.network.split = None
    module = make_module(config, structures)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    module.to(device)
    if not gpu:
        module.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = module.configure_optimizers()
    image = torch.rand(config.loader.batch_size, 1, *size, device=device)
    target = (torch.rand(len(image), structures, *size, device=device) > 0.9).float()

    def step() -> None:
        optimizer.zero_grad()
        module.loss(module.network(image).float(), target).backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            module.network(image[:1])

    return _seconds(step, gpu), _seconds(predict, gpu)


def _seconds(work: Any, gpu: bool) -> float:
    """Median of five calls after a first; of one where a call takes longer than ten seconds."""
    import torch

    times: list[float] = []
    while len(times) < 6 and not (len(times) > 1 and times[-1] > 10):
        start = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
