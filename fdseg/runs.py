"""Runs on disk: their identity, their folder, and files that are written whole or not at all."""

import csv
import errno
import hashlib
import io
import json
import os
import platform
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from fdseg.drafts import draft, remove_abandoned
from fdseg.errors import FdsegError, NotWritten, Stopped, not_written
from fdseg.locks import try_lock
from fdseg.result import require_whole

RESULT, LOCK, FAILURE = "result.json", "lock", "failure.json"  # files of a run's folder


def identity(science: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that stand for a scientific configuration, key order aside."""
    text = json.dumps(science, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def task_folder(task: str, phantom: bool) -> str:
    """``hippocampus`` or ``hippocampus-phantom``: the name of the folder of a task's runs."""
    return f"{task}-phantom" if phantom else task


def task_title(task: str, phantom: bool) -> str:
    """A task's name for a person; a phantom's says so."""
    return f"{'PHANTOM ' * phantom}{task.replace('_', ' ')}"


def run_folder(
    runs: Path, *, task: str, backbone: str, fusion: str, n: int, seed: int, digest: str
) -> Path:
    """``runs/<task>/<backbone>/<fusion>/n<n>/seed<seed>-<digest>``."""
    return runs / task / backbone / fusion / f"n{n}" / f"seed{seed}-{digest}"


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished run; ``None`` where there is none, or it is not whole."""
    result = read_json(folder / RESULT)
    try:
        require_whole(result)
    except ValueError:
        return None
    return result


def result_fault(folder: Path) -> str:
    """Say why the result of a run does not count; nothing where it does, or there is none."""
    path = folder / RESULT
    if not path.is_file():
        return ""
    try:
        require_whole(read_json(path))
    except ValueError as error:
        return f"{RESULT} is not whole: {error}"
    return ""


def read_json(path: Path) -> dict[str, Any] | None:
    """The mapping in a file; ``None`` where there is none, or it is not whole."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


@contextmanager
def only_process(folder: Path, what: str = "run", key: str = "runs") -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it when the process ends.

    On a file system without locks this warns and goes on.

    Args:
        folder: of a run, or of other work that two processes may not do at once.
        what: the work, for messages.
        key: of the configuration, by which the folder is chosen.

    Raises:
        FdsegError: another process holds it, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise FdsegError(
            f"{folder}: the {what}'s folder cannot be written ({error.strerror}). Choose a folder "
            f"that can with {key}=…"
        ) from None
    with file:
        # Whoever only asks whether a run is at work holds its lock for a moment.
        for _ in range(5):
            held = try_lock(file)
            if held is not False:
                break
            time.sleep(0.2)
        else:
            raise FdsegError(
                f"{folder}: another process works on this {what}. Wait for it, or end it."
            )
        if held is None:
            warnings.warn(
                f"{folder}: this file system has no file locks, so do not start the same {what} "
                "twice at a time.",
                stacklevel=1,
            )
        remove_abandoned(folder, locked=held is True)
        yield


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep the reason and the traceback of what fails in ``failure.json``, until it works.

    An interruption is no failure: the run can go on.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if folder.is_dir():  # not where it is the folder that was removed
            with suppress(OSError):  # nor on a full disk; the error itself is what counts
                write_json(folder / FAILURE, failure(error))
        raise


def failure(error: Exception) -> dict[str, str]:
    """What ``failure.json`` says of an error: its reason in one line, and its traceback."""
    known = error if isinstance(error, FdsegError) else not_written(error)
    text = str(known or error).strip() or type(error).__name__
    kind = "" if known else f"{type(error).__name__}: "
    return {
        "error": type(error).__name__,
        "reason": kind + text.splitlines()[0],
        "traceback": "".join(traceback.format_exception(error)),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
    }


@dataclass(frozen=True)
class State:
    """How a run stands.

    Attributes:
        name: ``done``, ``running``, ``failed``, ``stopped`` (it can go on) or ``missing``.
        reason: of a failure, or why a result does not count; one line.
        epochs: trained so far.
        seconds: of the finished run by stage, or of the epochs so far.
    """

    name: Literal["done", "running", "failed", "stopped", "missing"]
    reason: str = ""
    epochs: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


def state(folder: Path) -> State:
    """How the run of a folder stands, from its files alone."""
    if read_result(folder) is not None:
        return State("done", seconds=_stages(folder))
    history, reason = _history(folder), result_fault(folder)
    epochs, seconds = len(history), {"training": sum(history)}
    try:
        with (folder / LOCK).open("r") as file:
            if try_lock(file, shared=True) is False:
                return State("running", epochs=epochs, seconds=seconds)
    except OSError:
        return State("missing", reason)
    failed = read_json(folder / FAILURE)
    if failed is not None:
        return State("failed", str(failed.get("reason") or "no reason given"), epochs, seconds)
    return State("stopped" if epochs else "missing", reason, epochs, seconds)


def _stages(folder: Path) -> dict[str, float]:
    """Seconds of a finished run by stage, as far as its manifest has them."""
    seconds = (read_json(folder / "manifest.json") or {}).get("seconds")
    stages = seconds.items() if isinstance(seconds, dict) else ()
    return {stage: float(s) for stage, s in stages if isinstance(s, int | float)}


def _history(folder: Path) -> list[float]:
    """Seconds of every epoch in ``history.csv``."""
    try:
        with (folder / "history.csv").open(newline="") as file:
            return [float(row["seconds"]) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError):
        return []


def summarise(
    rows: Sequence[Mapping[str, Any]], metrics: Iterable[str] = ("dice", "hd95_mm", "nsd")
) -> dict[str, Any]:
    """The test result of one run from the rows of ``cases.csv``.

    A subject's value is the mean over its structures; mean and SEM (ddof 1) are over subjects.
    """
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    summary: dict[str, Any] = {"subjects": len(cases), "missed": sum(r["missed"] for r in rows)}
    for metric in metrics:
        table = np.array([[r[metric] for r in rows if r["case"] == case] for case in cases])
        summary[metric] = _mean_sem(table.mean(axis=1))
        for structure, values in zip(structures, table.T, strict=True):
            summary.setdefault("structures", {}).setdefault(structure, {})[metric] = _mean_sem(
                values
            )
    return summary


def ranks(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, float]]:
    """The worst, the median and the best test case, each with its mean Dice over structures."""
    dice: dict[str, list[float]] = {}
    for row in rows:
        dice.setdefault(row["case"], []).append(row["dice"])
    means = {case: sum(values) / len(values) for case, values in dice.items()}
    order = sorted(means, key=lambda case: means[case])
    places = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    return {rank: (case, means[case]) for rank, case in places.items()}


def _mean_sem(values: np.ndarray) -> dict[str, float | None]:
    with np.errstate(invalid="ignore"):  # HD95 may be infinite (scores.empty=inf)
        sem = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(values.mean()), "sem": sem}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A file to write under a temporary name; it gets its own when all is in it, or is removed.

    Raises:
        NotWritten: it cannot be written.
    """
    with draft(path) as partial:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
        except OSError as error:
            raise NotWritten(error.errno, error.strerror or str(error), str(path)) from error


class _Patient(io.BufferedIOBase):
    """A file whose first error waits until all was written.

    Out of an error in the middle libraries in C++ make another one.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that is flushed to the disk before it gets its name.

    Raises:
        NotWritten: it cannot be written; raised at the end.
    """
    with written_whole(path) as partial, partial.open("wb") as file:
        patient = _Patient(file)
        yield patient  # type: ignore[misc]
        if patient.error:
            raise patient.error
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    # A reader of a pipe would wait for ever.
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file whole."""
    with whole(path) as file:
        file.write(text.encode())


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


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``45 s``, ``7 min``, ``3.2 h``, ``12 days``."""
    for unit, length, enough in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < enough * length:
            return f"{seconds / length:.{int(unit == 'h')}f} {unit}"
    return f"{seconds / 86400:.0f} days"
