"""Runs on disk: their identity, their folder, and files that are written whole or not at all."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fdseg.errors import FdsegError


def identity(science: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that stand for a scientific configuration, key order aside."""
    text = json.dumps(science, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_folder(
    runs: Path, *, task: str, backbone: str, fusion: str, n: int, seed: int, digest: str
) -> Path:
    """``runs/<task>/<backbone>/<fusion>/n<n>/seed<seed>-<digest>``."""
    return runs / task / backbone / fusion / f"n{n}" / f"seed{seed}-{digest}"


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run; ``None`` where there is none, or it is not whole."""
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return None


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold a run's folder for this process; the system lets go of it when the process ends.

    Raises:
        FdsegError: another process holds it, or the folder can't be written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise FdsegError(
            f"{folder}: the run's folder cannot be written ({error.strerror}). Choose a folder "
            "that can with runs=…"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FdsegError(
                f"{folder}: another process works on this run. Wait for it, or end it."
            ) from None
        yield


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The test result of one run from the rows of ``cases.csv``.

    A subject's value is the mean over its structures; mean and SEM (ddof 1) are over subjects.
    """
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    summary: dict[str, Any] = {"subjects": len(cases), "missed": sum(r["missed"] for r in rows)}
    for metric in ("dice", "hd95_mm", "nsd"):
        table = np.array([[r[metric] for r in rows if r["case"] == case] for case in cases])
        summary[metric] = _mean_sem(table.mean(axis=1))
        for structure, values in zip(structures, table.T, strict=True):
            summary.setdefault("structures", {}).setdefault(structure, {})[metric] = _mean_sem(
                values
            )
    return summary


def _mean_sem(values: np.ndarray) -> dict[str, float | None]:
    sem = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(values.mean()), "sem": sem}


def write_text(path: Path, text: str) -> None:
    """Write a file whole: under a temporary name, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table whole; numbers with all their digits, ``None`` as an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
