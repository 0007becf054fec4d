"""``python -m fdseg.diagnose``: which frequencies trained networks use, and learned when."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals

if TYPE_CHECKING:
    from fdseg.data.task import Task
    from fdseg.trained import TrainedRun

Rows = list[dict[str, Any]]
_OUTPUTS = ("responses.csv", "responses.svg", "responses.png", "spectra.svg", "spectra.png")


def run(config: DictConfig) -> None:
    """Show filtered test volumes to trained networks; write a table and figures.

    Raises:
        FdsegError: a run cannot be read, its data is not there, or nothing can be written.
    """
    _check(config)
    from fdseg.trained import read_runs

    trained = read_runs(
        [Path(path) for path in configuration.several(config.run)],
        checkpoint=config.checkpoint,
        trust=configuration.several(config.trust),
    )
    output = _output(config, trained)
    refuse_originals([output / name for name in _OUTPUTS])
    names = _names(trained)
    if trained[0].is_phantom:
        print("PHANTOM: trained on synthetic data; what follows says nothing about patients.")
    found = {names[one.folder]: _responses(config, one, names[one.folder]) for one in trained}
    rows = [{"run": name, **row} for name, own in found.items() for row in own]
    try:
        runs.write_csv(output / "responses.csv", list(rows[0]), rows)
    except OSError as error:
        raise FdsegError(
            f"output={output}: cannot be written ({error.strerror}). Choose another folder."
        ) from None
    _draw(trained, names, found, output)
    _print(trained, names, found)
    print(output)


def _check(config: DictConfig) -> None:
    cutoffs = [*config.cutoffs]
    if not cutoffs or not all(isinstance(c, int | float) and 0 < c <= 1 for c in cutoffs):
        raise FdsegError(f"cutoffs={cutoffs}: expected numbers in (0, 1], such as [0.1,0.2].")
    if config.cases is not None and (not isinstance(config.cases, int) or config.cases < 1):
        raise FdsegError(f"cases={config.cases}: expected a whole number, or null for all.")
    if config.device not in ("auto", "cpu", "cuda"):
        raise FdsegError(f"device={config.device}: expected auto, cpu or cuda.")


def _output(config: DictConfig, trained: "Sequence[TrainedRun]") -> Path:
    if config.output:
        return Path(config.output)
    if len(trained) > 1:
        raise FdsegError("output: not given. Name a folder for what is found of several runs.")
    return trained[0].folder / "diagnosis"


def _names(trained: "Sequence[TrainedRun]") -> dict[Path, str]:
    """The fusion of every run, with n and seed where they differ, and its hash where needed."""
    facts = {one.folder: runs.read_result(one.folder) or {} for one in trained}
    names = {}
    for folder, fact in facts.items():
        words = [str(fact.get("fusion", folder.name))]
        for key in ("n", "seed"):
            if len({str(other.get(key)) for other in facts.values()}) > 1:
                words.append(f"{key}={fact.get(key)}")
        names[folder] = " ".join(words)
    return {
        folder: name if list(names.values()).count(name) == 1 else f"{name} {folder.name[-8:]}"
        for folder, name in names.items()
    }


def _responses(config: DictConfig, trained: "TrainedRun", name: str) -> Rows:
    """Rows of one run, under a progress bar."""
    from fdseg.data.cache import Preparer
    from fdseg.inference import Predictor, find_device
    from fdseg.memory import available_gb
    from fdseg.progress import progress
    from fdseg.responses import responses

    task = _task(config, trained)
    cases = Preparer.of(task)(task.cases(task.subjects.test), task.digests)[: config.cases]
    predictor = Predictor(
        [trained], device=find_device(config.device), memory_gb=0.9 * available_gb()
    )
    work = responses(predictor, task, cases, [*config.cutoffs])
    return [row for rows in progress(work, name, "case", total=len(cases)) for row in rows]


def _task(config: DictConfig, trained: "TrainedRun") -> "Task":
    """The task that a run had, with its data where it is now."""
    from fdseg.data.task import Task
    from fdseg.safety import build, read_config

    path, trust = trained.folder / "config.yaml", configuration.several(config.trust)
    data = dict(read_config(path, trust)["data"])
    if config.root and not trained.is_phantom:
        data["root"] = str(config.root)
    if config.cache:
        data["cache"] = str(config.cache)
    task = build(data, path, "data", trust=["fdseg.data", *trust])
    if not isinstance(task, Task):
        raise FdsegError(f"{path}: data._target_={data.get('_target_')} makes no task.")
    try:
        made = json.loads((trained.folder / "manifest.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FdsegError(f"{trained.folder}: has no manifest.json of a finished run.") from None
    if made != task.fingerprint:
        raise FdsegError(
            f"{trained.folder}: was trained on other data than {task.found.folder} holds now, or "
            "on another split of it. Name the folder of its data with root=…"
        )
    return task


def _draw(
    trained: "Sequence[TrainedRun]",
    names: Mapping[Path, str],
    found: Mapping[str, Rows],
    output: Path,
) -> None:
    """Write the figures."""
    from fdseg.report.optional import optional
    from fdseg.report.responses import response_curves
    from fdseg.report.spectra import heat_maps, read_errors

    first = trained[0]
    title = runs.task_title(first.task, first.is_phantom)
    results = [runs.read_result(one.folder) or {} for one in trained]
    theta = next((r["theta"] for r in results if r.get("fusion") != "none" and "theta" in r), None)
    with optional(output / "responses.svg"):
        response_curves("responses", title, found, theta).write(output)
    maps = {("", names[one.folder]): table for one in trained if (table := read_errors(one.folder))}
    if maps:
        with optional(output / "spectra.svg"):
            heat_maps("spectra", title, maps, theta).write(output)


def _print(
    trained: "Sequence[TrainedRun]", names: Mapping[Path, str], found: Mapping[str, Rows]
) -> None:
    """Dice on whole volumes, which should be the run's own, and where half of it is reached."""
    from fdseg.report.responses import mean_dice
    from fdseg.report.table import aligned

    lines = [["run", "Dice, whole volumes", "result.json", "half of it: low up to", "high from"]]
    for one in trained:
        name = names[one.folder]
        cases = {key: values.mean() for key, values in mean_dice(found[name]).items()}
        whole = cases["none", None]
        reached = {
            kind: [c for k, c in cases if k == kind and c is not None and cases[k, c] >= whole / 2]
            for kind in ("low", "high")
        }
        own = (runs.read_result(one.folder) or {}).get("test", {}).get("dice", {}).get("mean")
        lines.append(
            [
                name,
                f"{whole:.4f}",
                "–" if own is None else f"{own:.4f}",
                f"{min(reached['low'], default=1):g}",
                f"{max(reached['high'], default=0):g}",
            ]
        )
    print(f"\n{aligned(lines)}\n")


main = configuration.entry_point(run, "diagnose")

if __name__ == "__main__":
    sys.exit(main())
