"""Several runs at a time on one machine, and what keeps them from a cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdseg import sweep
from fdseg.errors import FdsegError
from hydra_plugins.fdseg_launchers import Job, Pace, ProcessesLauncher, _EndTogether
from hydra_plugins.fdseg_slurm import SlurmLauncher

WORDS = ["+sweep=smoke", "data.phantom.scale=0.5", "data.split.test=2", "seed=0"]
LAUNCHERS = {
    "basic": [],
    "processes": [
        "hydra/launcher=processes", "hydra.launcher.jobs=2", "hydra.launcher.threads=1",
    ],
}  # fmt: skip


def start(*words, launcher="processes"):
    """A sweep in a group of processes of its own, as a shell in a terminal makes one."""
    return subprocess.Popen(
        [sys.executable, "-m", "fdseg.train", "-m", *WORDS, *LAUNCHERS[launcher], *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def children(process):
    """Every thread of a process has a list of those that it started."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(pid) for path in threads for pid in path.read_text().split()]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def states(where):
    points = sweep.grid([*WORDS, f"runs={where}"])
    return {point.swept["fusion"]: point.state for point in points}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_killed_run_takes_no_other_with_it_and_is_done_the_next_time(tmp_path):
    process = start(f"runs={tmp_path}")
    wait_for(lambda: list(tmp_path.glob("hippocampus*/*/*/*/*/history.csv")))
    victim = min(children(process))
    os.kill(victim, signal.SIGKILL)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "was killed by SIGKILL" in printed
    names = [state.name for state in states(tmp_path).values()]
    assert sorted(names) == ["done", "done", "failed"]
    again = start(f"runs={tmp_path}")
    printed, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert "3 runs: 3 done" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_terminated_launcher_lets_its_runs_checkpoint_and_they_go_on(tmp_path):
    process = start(f"runs={tmp_path}", "trainer.max_epochs=200")
    wait_for(lambda: list(tmp_path.glob("hippocampus*/*/*/*/*/history.csv")))
    pids = children(process)
    process.terminate()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM, printed
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    logs = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "stopped by SIGTERM" in logs
    assert list(tmp_path.rglob("last.ckpt"))


@pytest.mark.parametrize(
    ("launcher", "times"),
    [
        ("basic", 1),
        pytest.param("basic", 2, marks=pytest.mark.slow),
        pytest.param("processes", 1, marks=pytest.mark.slow),
        pytest.param("processes", 2, marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_a_whole_sweep_with_checkpoints_and_once_more_at_once(
    launcher, times, tmp_path
):
    process = start(f"runs={tmp_path}", "trainer.max_epochs=200", launcher=launcher)
    wait_for(lambda: list(tmp_path.glob("hippocampus*/*/*/*/*/history.csv")))
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.01)
    printed, _ = process.communicate(timeout=60)
    logs = "".join(path.read_text() for path in tmp_path.rglob("*.log"))
    assert "Traceback" not in printed + logs
    if times == 1:
        assert process.returncode == 130
        assert printed.count("interrupted; repeat the command to go on.") == 1
        assert "It stopped" in printed + logs
        assert list(tmp_path.rglob("last.ckpt"))
    else:  # the second may come before the first is noticed
        assert process.returncode in (-signal.SIGINT, 130)
    begun = len(list(tmp_path.glob("hippocampus*/*/*/*/*")))
    assert begun <= {"basic": 1, "processes": 2}[launcher]  # of three runs


def sleeping():
    return subprocess.Popen(["sleep", "60"])


def test_ctrl_c_ends_the_jobs_that_run_and_the_one_that_is_being_started():
    together = _EndTogether()
    with together, together.running(sleeping()) as running:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with together.running(sleeping()) as started:
            assert running.wait(timeout=10) == started.wait(timeout=10) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_cores_and_gpus_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [e["OMP_NUM_THREADS"] for e in ProcessesLauncher().environments] == ["1"] * 8
    assert [e["OMP_NUM_THREADS"] for e in ProcessesLauncher(jobs=2).environments] == ["4"] * 2
    assert ProcessesLauncher(jobs=2, threads=3).environments[0]["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    environments = ProcessesLauncher(per_gpu=2).environments
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["4", "6", "4", "6"]
    assert environments[0]["OMP_NUM_THREADS"] == "2"


def test_slurm_without_its_package_says_how_to_install_it():
    words = "-m +sweep=smoke hydra/launcher=slurm"
    code = f"""
import sys
sys.modules["hydra_plugins.hydra_submitit_launcher"] = None
sys.argv = ["fdseg.train", *"{words}".split()]
from fdseg import train
train.main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: hydra/launcher=slurm: hydra-submitit-launcher is missing. Install it with "
        "pip install -e '.[slurm]'.\n"
    )


def test_where_there_is_no_slurm_this_is_said(monkeypatch, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FdsegError, match=r"no Slurm here.*hydra/launcher=processes"):
        SlurmLauncher(tasks_per_node=1).setup()


def test_a_slurm_job_needs_to_know_its_devices(monkeypatch, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sbatch = tmp_path / "sbatch"
    sbatch.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FdsegError, match=r"trainer.devices=auto: .*give their number"):
        SlurmLauncher(tasks_per_node="auto").setup()


def test_the_time_left_is_told_from_runs_that_trained(tmp_path, monkeypatch, capsys):
    now = iter([100, 120, 160, 180])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    pace = Pace(5)
    for problem in ("ended with status 2", "", "ended with status 2", "", ""):
        pace.report(Job([f"seed={pace.ended}"], None, None), problem)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert lines == [
        "[1/5] ended with status 2, 4 left: seed=0",
        "[2/5] done, about 60 s left: seed=1",  # three more of 20 s
        "[3/5] ended with status 2, about 2 min left: seed=2",  # two of 60 s
        "[4/5] done, about 40 s left: seed=3",  # one of 40 s
        "[5/5] done, the last: seed=4",
    ]
