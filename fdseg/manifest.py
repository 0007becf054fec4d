"""What is needed to understand a run later: versions, machine, time, and the data it had."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fdseg.data.task import Task
from fdseg.memory import peak_gb
from fdseg.runs import sha256

_PACKAGES = ("fdseg", "torch", "lightning", "monai", "torchio", "hydra-core", "numpy", "nibabel")


def manifest(
    *,
    task: Task,
    drawn: Sequence[str],
    parameters: int,
    device: str,
    seconds: Mapping[str, float],
    checkpoints: Path,
) -> dict[str, Any]:
    """The manifest of a run.

    Args:
        task: the data.
        drawn: names of the training cases.
        parameters: number of the network's parameters.
        device: where it was trained.
        seconds: per stage of the run.
        checkpoints: folder of the run's checkpoints, whose digests are kept.
    """
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "phantom": dict(task.phantom or {}) if task.is_phantom else None,
        "fingerprint": task.fingerprint,
        "drawn": list(drawn),
        "left_out": task.found.left_out,
        "parameters": parameters,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "threads": torch.get_num_threads(),
        "seconds": {stage: round(value, 2) for stage, value in seconds.items()},
        "peak_memory_mb": _peak_memory_mb(device),
        "checkpoints": {path.stem: sha256(path) for path in sorted(checkpoints.glob("*.ckpt"))},
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "git": _git(),
    }


def _peak_memory_mb(device: str) -> dict[str, int]:
    peak = {"process": round(1e9 * peak_gb() / 2**20)}
    if device.startswith("cuda"):
        peak["device"] = torch.cuda.max_memory_allocated() // 2**20
    return peak


def _git() -> dict[str, Any] | None:
    """Commit of fdseg's own checkout, and whether it was changed; ``None`` where installed."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": bool(changes)}
