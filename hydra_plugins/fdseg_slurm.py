"""The runs of a multirun as a Slurm job array. Hydra looks for its plugins in this folder alone."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from hydra_plugins.fdseg_launchers import Job, Pace, job_returns, make_jobs

try:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher as Submitit
except ImportError:  # the extra `slurm` is not installed
    Submitit = None  # type: ignore[assignment,misc]


class SlurmLauncher(Submitit or Launcher):  # type: ignore[misc]
    """hydra-submitit-launcher's, with runs that can be put back into the queue at any time.

    Here a job is the command of its run, the ones found done are left out, and how a job went is
    told by its run's folder and by the queue: both outlive jobs and this process, and need no
    accounting in Slurm.
    """

    def __init__(self, **params: Any) -> None:
        if Submitit is not None:
            super().__init__(**params)

    def setup(self, **parts: Any) -> None:
        """Called by Hydra.

        Raises:
            FdsegError: this machine, or this configuration, cannot submit jobs.
        """
        from fdseg.errors import FdsegError

        if Submitit is None:
            raise FdsegError(
                "hydra/launcher=slurm: hydra-submitit-launcher is missing. Install it with "
                "pip install -e '.[slurm]'."
            )
        if shutil.which("sbatch") is None:
            raise FdsegError(
                "hydra/launcher=slurm: there is no Slurm here (sbatch is not found). Give the "
                "command on a node that submits jobs, or use hydra/launcher=processes."
            )
        if not isinstance(self.params["tasks_per_node"], int):
            raise FdsegError(
                f"trainer.devices={self.params['tasks_per_node']}: a Slurm job has one task per "
                "device, so give their number."
            )
        super().setup(**parts)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit one array of all jobs but those found done, and wait; failed ones return NaN."""
        from fdseg.terminal import counted

        jobs = list(make_jobs(self.hydra_context, self.config, job_overrides))
        todo = [job for job in jobs if job.value() is None]
        if todo:
            submitted = self._submit(todo)
            number = submitted[0].job_id.partition("_")[0]
            before = len(jobs) - len(todo)
            notes = dict.fromkeys(note for job in todo if job.run for note in job.run.notes)
            print(
                *notes,
                f"{counted(len(todo), 'run')} as Slurm job {number}, {before} done before",
                sep="\n",
            )
            sys.stdout.flush()
            for job, of_slurm in zip(todo, submitted, strict=True):
                job.log = of_slurm.paths.stdout
            try:
                _wait({s.job_id: job for s, job in zip(submitted, todo, strict=True)})
            except KeyboardInterrupt:
                print(f"Slurm goes on without this command; scancel {number} ends the jobs.")
                raise
        return job_returns(jobs)

    def _submit(self, jobs: list[Job]) -> list[Any]:
        import submitit

        from fdseg.errors import FdsegError

        params = {key: value for key, value in self.params.items() if key != "max_num_timeout"}
        folder = Path(params.pop("submitit_folder")).absolute()
        executor = submitit.AutoExecutor(folder, cluster="slurm")
        shared = BaseQueueConf.__dataclass_fields__  # with other schedulers; the rest is prefixed
        executor.update_parameters(
            **{key if key in shared else f"slurm_{key}": v for key, v in params.items()}
        )
        try:
            with executor.batch():  # one array
                return [executor.submit(train, _words(job)) for job in jobs]
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).replace("sbatch: error: ", "").split())
            raise FdsegError(
                f"Slurm did not take the jobs: {said}. See hydra.launcher.partition and .account; "
                "sinfo lists the partitions."
            ) from None


def _words(job: Job) -> list[str]:
    """The words of a job's command; what depends on the machine is decided on this one."""
    words = [*job.overrides, "hydra.mode=RUN"]
    if job.run:  # its folder depends on it, and the status looks for it from here
        words.append(f"trainer.precision={job.run.config.trainer.precision}")
    return words


def _wait(jobs: dict[str, Job]) -> None:
    """Until all jobs, by Slurm's names for them, are done or have left the queue for good."""
    pace, waiting = Pace(len(jobs)), dict(jobs)
    while waiting:
        time.sleep(min(1 + (time.perf_counter() - pace.start) / 20, 30))  # Slurm has other users
        listed = ["squeue", "--me", "--array", "--noheader", "--format=%i"]
        asked = subprocess.run(listed, capture_output=True, text=True, check=False)
        if asked.returncode:  # Slurm does not answer just now
            continue
        queue = set(asked.stdout.split())
        for name, job in list(waiting.items()):
            done = job.value() is not None
            if done or name not in queue:
                del waiting[name]
                pace.report(job, "" if done else f"job {name} ended without a result")


def train(words: list[str]) -> None:
    """What a job does, by submitit's hands: ``python -m fdseg.train``, every time it is started.

    A signal that finds no training to checkpoint ends the process: the job's script, in
    ``conf/hydra/launcher/slurm.yaml``, puts a job that a signal ended back into the queue.
    """
    for number in (signal.SIGTERM, signal.SIGUSR2):  # submitit would ignore the one, and requeue
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    from fdseg import train

    sys.argv = [train.__file__, *words]
    train.main()


def _end_with(step: int) -> None:
    """Put the job back and end this process when the process that holds its step, slurmstepd, dies.

    Slurm does not notice that: srun would wait for a word from it until the time limit.
    """
    import submitit

    while os.getppid() == step:
        time.sleep(1)
    subprocess.run(["scontrol", "requeue", submitit.JobEnvironment().job_id], check=False)
    os.kill(os.getpid(), signal.SIGKILL)
