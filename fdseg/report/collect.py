"""A folder of runs: those to report, and those left out with the reason."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdseg.errors import FdsegError
from fdseg.report.finished import Run, UnusableError, read_run

# A folder with one of these is a run, or claims to be one.
_MARKS = {"result.json", "failure.json", "config.yaml", "cases.csv", "history.csv"}
# Folders that hold none: prepared volumes, what Hydra keeps of a sweep, and views of runs.
_NO_RUNS = {"cache", "multirun", "dashboards"}


@dataclass(frozen=True)
class LeftOut:
    """A folder that a report does not use.

    Attributes:
        folder: where it lies.
        kind: ``unfinished``, ``failed``, ``foreign``, ``corrupt``, ``mixed`` or ``double``.
        reason: what is wrong with it.
    """

    folder: Path
    kind: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The runs of a folder, sorted, and those left out."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]


def collect(
    runs: Path,
    *,
    skip: Path | None = None,
    progress: Callable[[Sequence[Path]], Iterable[Path]] = lambda folders: folders,
) -> Collection:
    """All runs below a folder.

    Args:
        runs: the folder.
        skip: a folder to stay out of, where it lies below: for what is made of the runs.
        progress: wraps the folders while they are read.

    Raises:
        FdsegError: there is no such folder, or the one to stay out of holds a run.
    """
    if not runs.is_dir():
        raise FdsegError(f"runs={runs}: no such folder. Name the folder that fdseg.train wrote to.")
    hidden = next(skip.rglob("result.json"), None) if skip and runs in skip.parents else None
    if hidden:
        raise FdsegError(
            f"output={skip}: holds a run ({hidden.parent}), which would be left out. Choose a "
            "folder that holds none."
        )
    found: list[Run] = []
    left_out: list[LeftOut] = []

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(Path(error.filename), "foreign", f"{error.strerror}"))

    for folder in progress(sorted(_folders(runs, skip, unreadable))):
        try:
            found.append(read_run(folder))
        except UnusableError as problem:
            left_out.append(LeftOut(folder, problem.kind, problem.reason))
    unique, doubles = _without_doubles(found)
    return Collection(tuple(unique), tuple(sorted(left_out + doubles, key=lambda x: x.folder)))


def _folders(runs: Path, skip: Path | None, onerror: Callable[[OSError], None]) -> Iterator[Path]:
    for name, folders, files in os.walk(runs, onerror=onerror):
        folder = Path(name)
        if _MARKS & {*files}:
            yield folder
            folders.clear()  # what a run holds belongs to it
        folders[:] = [f for f in folders if f not in _NO_RUNS and folder / f != skip]


def _without_doubles(found: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Copies of a run count once; the same run with two different results counts for nothing."""
    groups: dict[str, list[Run]] = {}
    for run in found:
        key = [run.task, run.phantom, run.fusion, run.n, run.seed, run.settings]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    unique: list[Run] = []
    doubles: list[LeftOut] = []
    for same in groups.values():
        if all(run.cases == same[0].cases for run in same):
            unique.append(same[0])
            reason = f"a copy of {same[0].folder}"
            doubles += [LeftOut(run.folder, "double", reason) for run in same[1:]]
            continue
        for run in same:
            others = ", ".join(str(other.folder) for other in same if other is not run)
            reason = f"the same run as {others}, with other scores: keep one of them"
            doubles.append(LeftOut(run.folder, "double", reason))
    return unique, doubles
