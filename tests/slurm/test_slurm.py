"""Sweeps on a real Slurm of one node, whose jobs are killed, held up and pushed aside."""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from fdseg import sweep

pytestmark = pytest.mark.slurm

CLUSTER = Path(__file__).with_name("cluster")
SWEEP = ["+sweep=smoke", "data.phantom.scale=0.3", "trainer.max_epochs=40",
         "trainer.accelerator=cpu"]  # fmt: skip
SLURM = ["hydra/launcher=slurm", "hydra.launcher.mem_gb=null", "hydra.launcher.cpus_per_task=1",
         "hydra.launcher.signal_delay_s=10"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            started = subprocess.run([CLUSTER, "start", folder], stderr=subprocess.PIPE, text=True)
            if started.returncode == 3:
                pytest.skip(started.stderr.strip())
            assert started.returncode == 0, started.stderr
            yield
        finally:
            subprocess.run([CLUSTER, "stop", folder], check=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cohort, made and prepared once."""
    return f"data.cache={tmp_path_factory.mktemp('cache')}"


@pytest.fixture(scope="module")
def local(start, cache, tmp_path_factory):
    """What the launcher of one process makes of the sweep: its numbers, run by run."""
    where = tmp_path_factory.mktemp("local")
    status, printed = finish(start(where, *SWEEP, cache))
    assert status == 0, printed
    return {name: numbers(folder) for name, folder in folders(where, *SWEEP, cache).items()}


@pytest.fixture(scope="module")
def start():
    """Starts a sweep; none outlives the tests."""
    started = []

    def begin(where, *words):
        command = [sys.executable, "-m", "fdseg.train", "-m", f"runs={where}", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        started.append(subprocess.Popen(command, text=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def finish(process, seconds=300):
    printed, _ = process.communicate(timeout=seconds)
    return process.returncode, printed


def folders(where, *words):
    """The folder of every run of a sweep, by what it has of its own."""
    return {sweep.label(p): p.run.folder for p in sweep.grid([f"runs={where}", *words])}


def numbers(folder):
    """All that a run computed: result, cases, history but for its seconds, weights."""
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {name: value.tolist() for name, value in checkpoint["state_dict"].items()}
    history = [{**row, "seconds": None} for row in history_of(folder)]
    tables = [(folder / name).read_text() for name in ("result.json", "cases.csv", "spectra.csv")]
    return *tables, history, weights


def history_of(folder):
    try:
        with (folder / "history.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def together(process, *stories, seconds=300):
    """Let stories go on side by side; each is a generator that yields as long as it waits."""
    deadline = time.monotonic() + seconds
    while stories:
        stories = [story for story in stories if next(story, "the end") != "the end"]
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def until(condition):
    while not condition():
        yield


def slurm(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def array(process):
    """The number that the job array was given."""
    for line in process.stdout:
        if found := re.search(r"as Slurm job (\d+)", line):
            return found[1]
    raise AssertionError("no job was submitted")


def task(job):
    """The process of a run, which slurmstepd started, as it did the batch script."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, KeyError):
            of, parent = process.environ(), process.parent()
            same = of["SLURM_CONF"] == os.environ["SLURM_CONF"]
            same = same and f"{of['SLURM_ARRAY_JOB_ID']}_{of['SLURM_ARRAY_TASK_ID']}" == job
            python = "submitit.core._submit" in process.cmdline()
            if same and python and parent is not None and parent.name() == "slurmstepd":
                return process
    raise AssertionError(f"job {job} has no process")


def log(where, job):
    return (where / "multirun" / "slurm" / job / f"{job}_0_log.out").read_text()


def pre_empt(where, job, trained):
    yield from until(trained)
    task(job).suspend()  # until Slurm's SIGTERM, which comes with SIGCONT
    everything = ["--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 1"]
    slurm("sbatch", *everything)
    yield from until(lambda: "stopped by SIGTERM" in log(where, job))


def hold_past_its_time_limit(where, job, trained):
    yield from until(trained)
    process = task(job)
    process.suspend()  # until Slurm's warning
    minutes = (time.time() - process.create_time() + 40) // 60 + 1  # Slurm looks every 30 s
    slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes:.0f}")
    yield from until(lambda: "stopped by SIGUSR2" in log(where, job))
    yield from until(lambda: slurm("squeue", "-hrj", job, "-o%T") == "PENDING")
    slurm("scontrol", "update", f"JobId={job}", "TimeLimit=60")


def kill_its_step(job, trained):
    yield from until(trained)
    slurm("scancel", "--signal=KILL", f"{job}.0")


def kill_what_holds_its_step(job, trained):
    yield from until(trained)
    task(job).parent().kill()


def test_a_sweep_whose_jobs_are_killed_and_held_up_ends_in_the_bits_of_the_local_one(
    start, local, cache, tmp_path, capsys
):
    begun = time.monotonic()
    words = [*SWEEP, cache]
    process = start(tmp_path, *words, *SLURM)
    number = array(process)
    jobs = [f"{number}_{index}" for index in range(6)]
    where = folders(tmp_path, *words)
    assert list(where) == list(local)  # in the order of the array

    def trained(index, epochs):
        folder = list(where.values())[index]
        return lambda: len(history_of(folder)) >= epochs

    together(process, pre_empt(tmp_path, jobs[0], trained(0, 7)))  # with the second one
    together(
        process,
        hold_past_its_time_limit(tmp_path, jobs[2], trained(2, 7)),
        kill_what_holds_its_step(jobs[3], trained(3, 7)),
        kill_its_step(jobs[5], trained(5, 7)),  # the last one has the number of the array
    )
    status, printed = finish(process)

    assert status == 0, printed
    assert "6 runs: 6 done" in printed
    logs = [log(tmp_path, job) for job in jobs]
    resumed = [text.count("Resuming from") for text in logs]
    assert resumed[0] == resumed[2] == resumed[3] == resumed[5] == 1
    assert resumed[4] == 0
    asked = [sys.executable, "-m", "fdseg.status", "--json", f"runs={tmp_path}", *words]
    points = [json.loads(line) for line in slurm(*asked).splitlines()]
    assert [point["state"] for point in points] == ["done"] * 6
    for name, folder in where.items():
        assert numbers(folder) == local[name], name
    with capsys.disabled():
        print(f" {time.monotonic() - begun:.0f} s, resumed: {resumed}", end="")
    status, printed = finish(start(tmp_path, *words, *SLURM))
    assert status == 0
    assert "as Slurm job" not in printed


def test_a_cancelled_and_a_failed_run_leave_the_others_alone_and_the_same_command_finishes(
    start, local, cache, tmp_path
):
    words = [*SWEEP, cache, "seed=0", "fusion=none,early"]
    process = start(tmp_path, *words, *SLURM, "n=2,999")
    where = list(folders(tmp_path, *words).values())
    number = array(process)
    together(process, until(lambda: len(history_of(where[0])) >= 3))
    slurm("scancel", f"{number}_0")
    status, printed = finish(process)
    assert status == 1
    assert "4 runs: 1 done, 1 stopped, 2 failed" in printed
    assert f"job {number}_0 ended without a result" in printed
    assert printed.count("n=999: the training set has") >= 2
    status, printed = finish(start(tmp_path, *words, *SLURM))
    assert status == 0, printed
    assert "1 run as Slurm job" in printed
    assert [numbers(folder) for folder in where] == [
        local["seed=0 fusion=none"], local["seed=0 fusion=early"]
    ]  # fmt: skip


def test_a_run_on_two_tasks_computes_what_one_process_does_with_the_same_batches(
    start, cache, tmp_path
):
    words = [*SWEEP, cache, "seed=0", "fusion=early", "loader.batch_size=2",
             "trainer.max_epochs=3", "trainer.precision=64-true",
             "backbone.network.dropout=0"]  # fmt: skip
    losses = {}
    for name, more in (("one", []), ("two", [*SLURM, "trainer=ddp", "trainer.devices=2"])):
        status, printed = finish(start(tmp_path / name, *words, *more))
        assert status == 0, printed
        [folder] = folders(tmp_path / name, *words).values()
        losses[name] = [float(row["train_loss"]) for row in history_of(folder)]
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-6)


def test_a_partition_that_does_not_exist_is_named(start, cache, tmp_path):
    words = [*SWEEP, cache, *SLURM, "hydra.launcher.partition=gpus"]
    status, printed = finish(start(tmp_path, *words))
    assert status == 2
    assert "error: Slurm did not take the jobs: invalid partition specified: gpus" in printed
    assert "hydra.launcher.partition" in printed
    assert "Traceback" not in printed
