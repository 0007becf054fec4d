"""``python -m fdseg.prepare``: a cohort downloaded, verified, split, preprocessed and drawn."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals
from fdseg.terminal import counted

if TYPE_CHECKING:
    from fdseg.data.cache import PreparedCase
    from fdseg.data.facts import Facts
    from fdseg.data.problems import Problem
    from fdseg.data.task import Task

_OUTPUTS = ("cohort.png", "cohort.csv", "split.json")


def run(config: DictConfig) -> None:
    """Make ready what the runs of a configuration need, and show what it is.

    Writes the cache, and to ``runs/<task>/cohort/`` a picture, a table and the split.

    Raises:
        FdsegError: the cohort is missing or cannot be fetched, or cases are unusable (what is
            wrong with them is printed as one table); or the split's file would be replaced.
    """
    start = time.perf_counter()
    configuration.resolve(config)
    task: Task = instantiate(config.data, _convert_="all")
    folder = Path(config.runs) / runs.task_folder(task.name, task.is_phantom) / "cohort"
    split = task.split.get("file")
    refuse_originals([folder / name for name in _OUTPUTS], [Path(split)] if split else [], "runs")
    if config.download:
        print(f"{task.download()}: complete", flush=True)
    if task.is_phantom:
        print("PHANTOM COHORT: data.root is unset, so this is synthetic data.", flush=True)
    prepared = _prepare(task)
    seconds = time.perf_counter() - start
    stored = sum(path.stat().st_size for case in prepared for path in case.folder.iterdir())
    print(
        f"{task.summary()}\nprepared in {runs.duration(seconds)}: {stored / 1e6:.0f} MB in "
        f"{prepared[0].folder.parent}",
        flush=True,
    )
    _show(task, prepared, folder)


def _prepare(task: "Task") -> "list[PreparedCase]":
    """All cases in the cache, or a table of everything that is wrong with any of them."""
    from fdseg.data.cache import Preparer
    from fdseg.data.problems import UnusableCases

    problems: list[Problem] = []
    try:
        _ = task.found
    except UnusableCases as error:  # files are missing: see what is wrong with the others' too
        problems += error.problems
        task = replace(task, exclude=[*task.exclude, *_subjects(problems)])
    else:
        _ = task.subjects  # too small a cohort is told before it is preprocessed
    try:
        prepared = Preparer.of(task)(task.found.cases, task.digests)
    except UnusableCases as error:
        problems += error.problems
    if problems:
        _refuse(problems)
    return prepared


def _subjects(problems: "Sequence[Problem]") -> list[str]:
    return list(dict.fromkeys(problem.subject for problem in problems))


def _refuse(problems: "Sequence[Problem]") -> None:
    from fdseg.report.table import wrapped

    rows = [(problem.subject, problem.what, problem.remedy) for problem in problems]
    print(wrapped([("subject", "problem", "remedy"), *rows]), flush=True)
    names = _subjects(problems)
    raise FdsegError(
        f"{counted(len(names), 'case')} cannot be used. Do as the table says, or leave out with "
        f"data.exclude=[{','.join(names)}]."
    )


def _show(task: "Task", prepared: "Sequence[PreparedCase]", folder: Path) -> None:
    """Print what the cohort is like, and write it."""
    from fdseg.data.facts import find_facts
    from fdseg.data.splits import PARTS
    from fdseg.report.cohort import cohort_picture
    from fdseg.report.optional import optional
    from fdseg.report.table import aligned

    facts = find_facts(prepared, task.structures)
    part = {fact.name: "none" for fact in facts}  # a split file may leave cases out
    part |= {case: name for name in PARTS for case in getattr(task.subjects, name)}
    lines = [["structure", "median [mL]", "least", "most"]]
    for structure in task.structures:
        volumes = sorted(fact.volumes_ml[structure] for fact in facts)
        shown = volumes[len(volumes) // 2], volumes[0], volumes[-1]
        lines.append([structure, *(f"{ml:.3f}" for ml in shown)])
    print(f"\n{aligned(lines)}\n")
    _warn_of_cropping(task, facts)

    title = f"{'PHANTOM ' * task.is_phantom}{task.summary().splitlines()[0]}"
    rows = [_row(fact, part[fact.name]) for fact in facts]
    try:
        runs.write_text(folder / "split.json", task.subjects.to_json())
        runs.write_csv(folder / "cohort.csv", list(rows[0]), rows)
        with optional(folder / "cohort.png"):
            cohort_picture(folder / "cohort.png", facts, part, title)
    except OSError as error:
        raise FdsegError(
            f"{folder}: cannot be written ({error.strerror}). Choose another place with runs=…"
        ) from None
    for file in _OUTPUTS:
        if (folder / file).is_file():  # a picture may have failed
            print(folder / file)


def _warn_of_cropping(task: "Task", facts: "Sequence[Facts]") -> None:
    """A structure that is cut off can be neither learned nor predicted."""
    cut = sorted((fact for fact in facts if fact.lost), key=lambda fact: -fact.lost)
    if cut:
        print(
            f"warning: labelled voxels of {counted(len(cut), 'case')} lie outside of the grid "
            f"{task.size}, {cut[0].name} {100 * cut[0].lost:.1f} % of them. Choose a larger "
            "data.size, or data.reshape=resize.",
            file=sys.stderr,
        )


def _row(fact: "Facts", part: str) -> dict[str, Any]:
    case, geometry = fact.prepared.case, fact.prepared.geometry
    return {
        "case": case.name,
        "participant": case.participant,
        "group": case.group,
        "part": part,
        **{f"voxels_{axis}": n for axis, n in zip("xyz", geometry.shape, strict=True)},
        **{f"spacing_{axis}_mm": s for axis, s in zip("xyz", geometry.spacing, strict=True)},
        **{f"{structure}_ml": ml for structure, ml in fact.volumes_ml.items()},
        "lost": fact.lost,
    }


main = configuration.entry_point(run, "prepare")

if __name__ == "__main__":
    sys.exit(main())
