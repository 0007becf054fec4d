"""Launchers for multiruns. Hydra looks for its plugins in this folder and nowhere else."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
except ImportError:  # the extra `slurm` is not installed
    Submitit = None  # type: ignore[assignment,misc]

# fdseg is imported where it is needed: Hydra loads this file for commands of any package.


@dataclass
class Job:
    """One run of a multirun: its overrides, its folder, where its words go, and its place."""

    number: int
    overrides: list[str]
    config: DictConfig
    folder: Path | None
    log: Path


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
        """Run all jobs; finished ones are found done, failed ones return NaN."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        logs = Path(self.config.hydra.sweep.dir).absolute() / time.strftime("%Y-%m-%d-%H%M%S")
        free: SimpleQueue[dict[str, str]] = SimpleQueue()
        for environment in self.environments:
            free.put(environment)
        running: set[subprocess.Popen] = set()
        futures: dict[Future, Job] = {}
        jobs: list[Job] = []
        start, results = time.perf_counter(), {}
        total = len(job_overrides)
        print(f"{total} runs, {len(self.environments)} at a time; their output: {logs}", flush=True)
        with (
            _terminate_with_us(running),
            ThreadPoolExecutor(max_workers=len(self.environments)) as pool,
        ):
            try:
                for number, overrides in enumerate(job_overrides, start=initial_job_idx):
                    job = self._job(number, list(overrides), logs / f"{number}.log")
                    jobs.append(job)
                    value = _value(job)
                    if value is not None:
                        results[number] = value
                    else:
                        futures[pool.submit(_run, job, free, running)] = job
                for done, future in enumerate(as_completed(futures), start=1):
                    job, code = futures[future], future.result()
                    results[job.number] = _value(job)
                    _report(job, code, done, len(futures), time.perf_counter() - start)
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        return [_job_return(job, results.get(job.number)) for job in jobs]

    def _job(self, number: int, overrides: list[str], log: Path) -> Job:
        from fdseg.errors import FdsegError
        from fdseg.sweep import find

        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        try:
            folder = find(_without_hydra(config)).folder
        except FdsegError:
            folder = None  # the job's own process says what is wrong
        return Job(number, overrides, config, folder, log)


def _run(job: Job, free: SimpleQueue, running: set[subprocess.Popen]) -> int:
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
        running.add(process)
        try:
            return process.wait()
        finally:
            running.discard(process)
    finally:
        free.put(environment)


class _terminate_with_us:
    """Hand SIGTERM on to the jobs, which checkpoint; then obey it ourselves."""

    def __init__(self, running: set[subprocess.Popen]) -> None:
        self.running, self.received = running, False

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, self._hand_on)

    def _hand_on(self, number: int, frame: Any) -> None:
        self.received = True
        for process in list(self.running):
            process.send_signal(number)
        raise KeyboardInterrupt

    def __exit__(self, kind: Any, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if self.received:
            signal.raise_signal(signal.SIGTERM)


def _report(job: Job, code: int, done: int, total: int, seconds: float) -> None:
    from fdseg.runs import FAILURE, duration, write_json

    words = " ".join(job.overrides)
    left = f"about {duration(seconds / done * (total - done))} left" if done < total else "the last"
    if code == 0:
        print(f"[{done}/{total}] done, {left}: {words}", flush=True)
        return
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    if code == -signal.SIGKILL and job.folder and job.folder.is_dir():
        reason = "killed by SIGKILL, as Linux does where memory runs out"
        write_json(
            job.folder / FAILURE, {"reason": reason, "traceback": "", "time": "", "host": ""}
        )
    print(f"[{done}/{total}] {how}, {left}: {words}\n  {_last_error(job.log)}", flush=True)


def _last_error(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    errors = [line for line in lines if re.match(r"error: |\w*Error", line)]
    return f"{(errors or lines or ['no output'])[-1]} ({log})"


def _value(job: Job) -> float | None:
    """Validation Dice of a finished job."""
    from fdseg.runs import read_result

    result = read_result(job.folder) if job.folder else None
    return None if result is None else result["validation"]["dice"]


def _job_return(job: Job, value: float | None) -> JobReturn:
    returned = JobReturn(
        overrides=job.overrides, cfg=job.config, hydra_cfg=job.config, task_name="train"
    )
    returned.status = JobStatus.COMPLETED
    returned.return_value = float("nan") if value is None else value
    return returned


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


if Submitit is not None:

    class SlurmLauncher(Submitit):
        """hydra-submitit-launcher's, that outlives the failure of single jobs.

        The original ends a multirun at the first job that Slurm lost; here the others are waited
        for, and the lost one counts as failed.
        """

        def launch(
            self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
        ) -> Sequence[JobReturn]:
            """Submit one array of jobs and wait for all of them."""
            import submitit

            params = dict(self.params)
            executor = submitit.AutoExecutor(
                cluster="slurm",
                folder=params.pop("submitit_folder"),
                slurm_max_num_timeout=params.pop("max_num_timeout"),
            )
            shared = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb",
                      "nodes", "name", "stderr_to_stdout"}  # fmt: skip
            executor.update_parameters(
                **{key if key in shared else f"slurm_{key}": v for key, v in params.items()}
            )
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            jobs = executor.map_array(
                self,
                [list(overrides) for overrides in job_overrides],
                ["hydra.sweep.dir"] * len(numbers),
                list(numbers),
                [str(number) for number in numbers],
                [Singleton.get_state()] * len(numbers),
            )
            print(f"{len(jobs)} runs as Slurm job {jobs[0].job_id.split('_')[0]}", flush=True)
            returned = []
            for job, overrides in zip(jobs, job_overrides, strict=True):
                try:
                    returned.append(job.results()[0])
                except Exception as error:  # submitit's, of many kinds
                    print(f"{' '.join(overrides)}: {str(error).splitlines()[0]}", file=sys.stderr)
                    lost = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
                    lost.return_value = float("nan")
                    returned.append(lost)
            return returned
