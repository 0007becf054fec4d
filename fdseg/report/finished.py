"""A finished run, read from its files.

Nothing in them is trusted: a run counts only if it is whole, and at one with itself.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fdseg.config import scientific
from fdseg.result import require_whole
from fdseg.runs import summarise, task_folder
from fdseg.terminal import counted

#: The scores of a case that a report compares.
METRICS = ("dice", "hd95_mm")
#: The columns of a history that every run has.
CURVES = ("train_loss", "validation_dice")
#: Those of a run that learns θ.
WIDTHS = ("theta", "theta_x", "theta_y", "theta_z")

# libyaml's loader is seven times as fast, but not everywhere; both are safe.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_VALUES = 10_000  # a resolved configuration has about 150
_MOST_SUBJECTS = 1_000_000


@dataclass(frozen=True)
class CaseScores:
    """One test case of one run.

    Attributes:
        case, participant: whose label it is.
        scores: by metric, each the mean over its structures.
        missed: structures of which nothing was found.
    """

    case: str
    participant: str
    scores: Mapping[str, float]
    missed: int


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        task, phantom, fusion, n, seed: what it is a cell of.
        settings: all else that decides its numbers, nested as in its configuration.
        cases: the test cases in the order of ``cases.csv``.
        manifest: as written.
    """

    folder: Path
    task: str
    phantom: bool
    fusion: str
    n: int
    seed: int
    settings: Mapping[str, Any]
    cases: tuple[CaseScores, ...]
    manifest: Mapping[str, Any]

    @property
    def missed(self) -> int:
        """Structures of which nothing was found."""
        return sum(case.missed for case in self.cases)


class UnusableError(Exception):
    """Why a folder is no finished run: ``kind`` and ``reason`` as a report lists them."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


def read_run(folder: Path) -> Run:
    """The run of a folder.

    Raises:
        UnusableError: there is none, or it is not finished, whole and consistent.
    """
    if not (folder / "result.json").is_file():
        raise _unfinished(folder)
    result = _mapping(folder / "result.json", json.loads)
    try:
        require_whole(result)
    except ValueError as problem:
        raise UnusableError(
            "corrupt", f"result.json is not whole: {problem}; the same command writes it again"
        ) from None
    config = read_config(folder)
    manifest = _mapping(folder / "manifest.json", json.loads)
    try:
        settings = scientific(config)
        said = {
            "task": settings["data"].pop("name"),
            "phantom": config["data"]["root"] is None,
            "backbone": settings["backbone"]["name"],
            "fusion": settings["fusion"].pop("name"),
            "n": settings.pop("n"),
            "seed": settings.pop("seed"),
        }
        settings["network"].pop("fusion", None)
        settings["fingerprint"] = manifest["fingerprint"]
        facts = {key: result[key] for key in said}
        structures = list(settings["data"]["structures"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise UnusableError(
            "foreign", f"not a run of fdseg.train: {problem} is missing or of another kind"
        ) from None
    if facts["n"] >= _MOST_SUBJECTS:
        raise UnusableError("foreign", f"result.json: n={facts['n']} is more than there can be")
    if not re.fullmatch(r"[\w-]+", facts["task"]):  # it becomes part of file names
        raise UnusableError("foreign", f"result.json: {facts['task']!r} is no name of a task")
    _check_phantom(folder, facts["task"], facts["phantom"], said["phantom"], manifest)
    for key, value in said.items():
        if value != facts[key]:
            raise UnusableError(
                "corrupt", f"config.yaml says {key}={value}, result.json {key}={facts[key]}"
            )
    cases = _cases(folder, structures, result)
    return Run(
        folder, facts["task"], facts["phantom"], facts["fusion"], facts["n"], facts["seed"],
        settings, cases, manifest,
    )  # fmt: skip


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run, plain.

    Raises:
        UnusableError: it is missing, or not whole.
    """
    return _mapping(folder / "config.yaml", _safe_yaml)


def _unfinished(folder: Path) -> UnusableError:
    if (folder / "failure.json").is_file():
        failure = _mapping(folder / "failure.json", json.loads)
        return UnusableError("failed", _line(failure.get("reason")) or "no reason given")
    if not (folder / "config.yaml").is_file():
        return UnusableError("foreign", "not a run: neither result.json nor config.yaml is there")
    try:
        with (folder / "history.csv").open() as file:
            epochs = sum(1 for _ in file) - 1
    except (OSError, ValueError):
        epochs = 0
    return UnusableError(
        "unfinished",
        f"no result.json, {counted(epochs, 'epoch')} done; the same command goes on with it",
    )


def _line(text: Any) -> str:
    """The first line of a text."""
    return next(iter(str(text or "").strip().splitlines()), "")


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        values = parse(path.read_text())
    except FileNotFoundError:
        raise UnusableError("corrupt", f"{path.name} is missing") from None
    except OSError as error:
        raise UnusableError("corrupt", f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        raise UnusableError("corrupt", f"{path.name} is not whole: {_line(error)}") from None
    if not isinstance(values, dict):
        raise UnusableError("foreign", f"{path.name} holds no keys")
    return values


def _safe_yaml(text: str) -> Any:
    """YAML of plain values with text for keys, in a number that a configuration may have.

    A few lines of aliases to aliases can stand for billions of values.
    """
    values = yaml.load(text, _Loader)
    queue, count = [values], 0
    while queue:
        node = queue.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values")
        if isinstance(node, dict | list):
            queue.extend(node.values() if isinstance(node, dict) else node)
    return json.loads(json.dumps(values))


def _check_phantom(
    folder: Path, task: str, result: bool, config: bool, manifest: Mapping[str, Any]
) -> None:
    """A run is a phantom's by four signs; one that disagrees could put it in the wrong table."""
    signs = {"result.json": result, "config.yaml": config}
    signs["manifest.json"] = manifest.get("phantom") is not None
    place = folder.parts[-5] if len(folder.parts) >= 5 else ""
    if place in (task, task_folder(task, phantom=True)):
        signs["its folder"] = place != task
    if len(set(signs.values())) > 1:
        says = ", ".join(f"{sign}: {'phantom' if p else 'real'}" for sign, p in signs.items())
        raise UnusableError("mixed", f"neither phantom nor real: {says}")


def _cases(
    folder: Path, structures: Sequence[str], result: Mapping[str, Any]
) -> tuple[CaseScores, ...]:
    try:
        rows = read_rows(folder)
    except FileNotFoundError:
        raise UnusableError("corrupt", "cases.csv is missing") from None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UnusableError("corrupt", f"cases.csv: {type(error).__name__}: {error}") from None
    by_case: dict[str, dict[str, dict[str, Any]]] = {}
    for number, row in enumerate(rows, start=2):
        where = f"cases.csv, line {number}"
        if not 0 <= row["dice"] <= 1 or not row["hd95_mm"] >= 0:
            raise UnusableError(
                "corrupt", f"{where}: Dice {row['dice']}, HD95 {row['hd95_mm']} cannot be"
            )
        if row["structure"] in by_case.setdefault(row["case"], {}):
            raise UnusableError("corrupt", f"{where}: {row['case']} has {row['structure']} twice")
        by_case[row["case"]][row["structure"]] = row
    for case, found in by_case.items():
        if sorted(found) != sorted(structures):
            raise UnusableError("corrupt", f"cases.csv: {case} has {', '.join(found)}, not "
                            f"{', '.join(structures)}")  # fmt: skip
    if not rows:
        raise UnusableError("corrupt", "cases.csv holds no case")
    _check_summary(rows, result)
    return tuple(
        CaseScores(
            case,
            next(iter(found.values()))["participant"],
            {m: sum(row[m] for row in found.values()) / len(found) for m in METRICS},
            sum(row["missed"] for row in found.values()),
        )
        for case, found in by_case.items()
    )


def _check_summary(rows: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    summary = summarise(rows)
    for metric in METRICS:
        mean = summary[metric]["mean"]
        said = result["test"][metric]["mean"]
        if not (mean == said or math.isclose(mean, said, rel_tol=1e-6)):
            raise UnusableError(
                "corrupt",
                f"cases.csv has a mean {metric} of {mean:.6g}, result.json says {said:.6g}",
            )


def read_history(run: Run, columns: Sequence[str] = CURVES) -> list[dict[str, float]]:
    """Epoch and columns of ``history.csv``, where they are finite numbers.

    A broken file is an empty one: it costs the run its curve, not its scores.
    """
    wanted = ("epoch", *columns)
    try:
        with (run.folder / "history.csv").open(newline="") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            rows = [
                {
                    name: number
                    for name, value in zip(names, values, strict=False)
                    if name in wanted and value and math.isfinite(number := float(value))
                }
                for values in reader
            ]
    except (OSError, ValueError, csv.Error):
        return []
    return [row for row in rows if "epoch" in row]


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's ``cases.csv``, with numbers as numbers."""
    with (folder / "cases.csv").open(newline="") as file:
        return [
            {name: str(row[name]) for name in ("case", "participant", "structure")}
            | {name: float(row[name]) for name in (*METRICS, "nsd")}
            | {"missed": {"True": True, "False": False}[row["missed"]]}
            for row in csv.DictReader(file, strict=True)
        ]
