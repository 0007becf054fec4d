"""Several runs of a multirun at a time. Hydra looks for its plugins in this folder alone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# fdseg is imported where it is needed: Hydra loads this file for commands of any package.


@dataclass
class Job:
    """One run of a multirun.

    Attributes:
        overrides: the words of its command.
        config: composed from them.
        run: what they describe, a ``fdseg.sweep.Run``; ``None`` where it is unusable.
        log: where it writes what it has to say.
    """

    overrides: list[str]
    config: DictConfig
    run: Any
    log: Path = Path(os.devnull)

    def value(self) -> float | None:
        """Validation Dice of a finished run."""
        from fdseg.runs import read_result
        from fdseg.sweep import settled

        self.run = self.run and settled(self.run)
        result = read_result(self.run.folder) if self.run else None
        return None if result is None else result["validation"]["dice"]


def make_jobs(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]]
) -> Iterator[Job]:
    """The runs of a multirun, one after the other, so that the first need not wait for the last."""
    from fdseg.errors import FdsegError
    from fdseg.sweep import find

    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    tasks: dict[str, Any] = {}
    for overrides in job_overrides:
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        try:
            run = find(_without_hydra(composed), tasks)
        except FdsegError:
            run = None  # the job's own process says what is wrong
        yield Job(list(overrides), composed, run)


def job_returns(jobs: Sequence[Job]) -> list[JobReturn]:
    """What Hydra's sweepers are given; a run that did not finish returns NaN."""
    returns = []
    for job in jobs:
        returned = JobReturn(
            overrides=job.overrides, cfg=job.config, hydra_cfg=job.config, task_name="train"
        )
        returned.status = JobStatus.COMPLETED
        value = job.value()
        returned.return_value = float("nan") if value is None else value
        returns.append(returned)
    return returns


class Pace:
    """Says of each job that ended how it went, and how long the others will take.

    A run that failed at once says nothing of how long a training takes, so it does not count.

    Args:
        total: number of jobs.
    """

    def __init__(self, total: int) -> None:
        self.total, self.ended, self.trained = total, 0, 0
        self.start = time.perf_counter()

    def report(self, job: Job, problem: str) -> None:
        """Print one line; of a problem, the last error in the job's log too."""
        self.ended += 1
        self.trained += not problem
        words = f"[{self.ended}/{self.total}] {problem or 'done'}, {self._left()}"
        print(f"{words}: {' '.join(job.overrides)}", flush=True)
        if problem:
            print(f"  {_last_error(job.log)}", flush=True)

    def _left(self) -> str:
        from fdseg.runs import duration

        left = self.total - self.ended
        if not left:
            return "the last"
        if not self.trained:
            return f"{left} left"
        seconds = (time.perf_counter() - self.start) / self.trained * left
        return f"about {duration(seconds)} left"


class ProcessesLauncher(Launcher):
    """Runs several jobs of a multirun at a time, each a process of its own on this machine.

    A process that is killed, for want of memory say, takes no other with it. Processor cores and
    GPUs are shared out evenly.

    Args:
        jobs: at a time; by default ``per_gpu`` on every GPU, or one per core where there is none.
        threads: of each job; by default the cores, shared out.
        per_gpu: jobs on one GPU.
    """

    def __init__(
        self, jobs: int | None = None, threads: int | None = None, per_gpu: int = 1
    ) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        gpus = _gpus()
        jobs = jobs or len(gpus) * per_gpu or cores or 1
        threads = threads or max((cores or 1) // jobs, 1)
        self.environments = [
            {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
            | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})
            for i in range(jobs)
        ]

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra."""
        self.context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs but those found done; failed ones return NaN."""
        from fdseg.terminal import counted

        logs = Path(self.config.hydra.sweep.dir).absolute() / time.strftime("%Y-%m-%d-%H%M%S")
        free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for environment in self.environments:
            free.put(environment)
        together = _EndTogether()
        futures: dict[Future, Job] = {}
        jobs: list[Job] = []
        pace, total = Pace(len(job_overrides)), len(job_overrides)
        print(
            f"{counted(total, 'run')}, {len(self.environments)} at a time; their output: {logs}",
            flush=True,
        )
        with together, ThreadPoolExecutor(max_workers=len(self.environments)) as pool:
            try:
                for job in make_jobs(self.context, self.config, job_overrides):
                    job.log = logs / f"{initial_job_idx + len(jobs)}.log"
                    jobs.append(job)
                    if job.value() is None:
                        futures[pool.submit(_run, job, free, together)] = job
                pace.total = len(futures)
                for future in as_completed(futures):
                    pace.report(futures[future], _problem(futures[future], future.result()))
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return job_returns(jobs)


def _run(job: Job, free: SimpleQueue, together: "_EndTogether") -> int:
    """One job as a process, in one of the free places; its exit status."""
    environment = free.get()
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fdseg.train", *job.overrides, "hydra.mode=RUN"],
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        with together.running(process):
            return process.wait()
    finally:
        free.put(environment)


class _EndTogether:
    """Hand SIGTERM and Ctrl-C on to the jobs, which checkpoint; then obey it ourselves.

    In a terminal the jobs get Ctrl-C too. They are sent SIGTERM beside it, since a second Ctrl-C
    would end them without a checkpoint.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen] = set()
        self.received = 0

    @contextmanager
    def running(self, process: subprocess.Popen) -> Iterator[subprocess.Popen]:
        """While a job runs."""
        self.processes.add(process)
        if self.received:  # while it was started
            process.terminate()
        try:
            yield process
        finally:
            self.processes.discard(process)

    def __enter__(self) -> None:
        heard = [n for n in self.SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self.before = {n: signal.signal(n, self._hand_on) for n in heard}

    def _hand_on(self, number: int, frame: Any) -> None:
        if number == self.received == signal.SIGINT:  # once more: at once
            for process in list(self.processes):
                process.kill()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
        for process in list(self.processes):
            process.terminate()
        raise KeyboardInterrupt

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.received == signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)


def _problem(job: Job, code: int) -> str:
    """What a job's exit status tells, and nothing where it is well."""
    from fdseg.runs import FAILURE, write_json

    if code == -signal.SIGKILL and job.run and job.run.folder.is_dir():
        reason = "killed by SIGKILL, as Linux does where memory runs out"
        record = {"reason": reason, "traceback": "", "time": "", "host": ""}
        write_json(job.run.folder / FAILURE, record)
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}" if code else ""


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    errors = [line for line in lines if re.match(r"error: |\w*Error", line)]
    return f"{(errors or lines or ['no output'])[-1]} ({log})"


def _without_hydra(config: DictConfig) -> DictConfig:
    from omegaconf import open_dict

    config = config.copy()
    with open_dict(config):
        del config["hydra"]
    return config


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]
