"""The commands within a test: composed in this process, or given as in a shell."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg import train


def compose(command: str, *words: str) -> DictConfig:
    """The configuration that a command would get."""
    with hydra.initialize_config_dir(str(configuration.FOLDER), version_base="1.3"):
        return hydra.compose(command, overrides=list(words))


def trained(*words: str) -> Path:
    """Train in this process; the run's folder."""
    config = compose("train", *words)
    train.run(config)
    return Path(config.folder)


def shell(command: str, *words: str, **options: object) -> subprocess.CompletedProcess:
    """A command in a process of its own, with all that it prints."""
    return subprocess.run(
        [sys.executable, "-m", f"fdseg.{command}", *words],
        capture_output=True, text=True, timeout=300, check=False, **options,
    )  # fmt: skip


def assert_refused(ended: subprocess.CompletedProcess, message: str) -> None:
    """It ended as one does that was given a wrong word: with what to do, not with a traceback."""
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Error executing" not in ended.stderr


def abandoned(path: Path) -> Path:
    """What a process leaves beside a path that is killed while it writes there."""
    code = """
import os, signal, sys
from pathlib import Path
from fdseg.drafts import draft
with draft(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half of it")
    print(partial, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert Path(ended.stdout.strip()).is_file()
    return Path(ended.stdout.strip())


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
