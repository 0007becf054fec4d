"""From a configuration to its run, and from the words of a command to all runs of a sweep."""

import copy
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fdseg import config as configuration
from fdseg import runs
from fdseg.compose import FOLDER, explain, hydra_ready
from fdseg.data.task import Task
from fdseg.errors import FdsegError, WrongPrecisionError
from fdseg.precision import best_precision
from fdseg.terminal import counted
from fdseg.words import with_paths

if TYPE_CHECKING:
    from fdseg.module import SegmentationModule

NAME = "train"  # the primary configuration


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        config: its configuration, complete.
        task: its data.
        folder: where it is, or will be.
        notes: what was decided on the way.
        automatic: whether its precision was chosen by fdseg.
    """

    config: DictConfig
    task: Task
    folder: Path
    notes: tuple[str, ...] = ()
    automatic: bool = False


def find(config: DictConfig, tasks: dict[str, Task] | None = None) -> Run:
    """The run that a composed configuration describes; trains nothing.

    Args:
        config: composed; what is left open in it gets decided in place.
        tasks: made before, per data configuration, to be used again.

    Raises:
        FdsegError: a value is unusable, the data is missing, or n too large.
    """
    configuration.resolve(config)
    key = json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True)
    task = (tasks or {}).get(key)
    if task is None:
        task = instantiate(config.data, _convert_="all")
    if tasks is not None:
        tasks[key] = task
    if config.data.cohort.get("channel") != task.found.channel:
        # What was used, for whoever predicts by the run.
        OmegaConf.update(config, "data.cohort.channel", task.found.channel, force_add=True)
    notes: tuple[str, ...] = ()
    automatic = config.trainer.precision == "auto"
    if automatic:
        config.trainer.precision, note = best_precision(
            config.trainer.accelerator, config.data.size
        )
        notes = (note,)
    task.draw(config.n, config.seed)  # refuses an n that is too large
    return settled(Run(config, task, _place(config, task), notes, automatic))


def settled(run: Run) -> Run:
    """Return the float32 run that takes the place of one whose automatic precision was refused.

    The refusal is in the folder of the refused run, so every command finds the same run.
    """
    failure = runs.read_json(run.folder / runs.FAILURE) or {}
    if not run.automatic or failure.get("error") != WrongPrecisionError.__name__:
        return run
    refused, run.config.trainer.precision = run.config.trainer.precision, "32-true"
    note = f"Precision: 32-true ({refused} was found to be wrong here, see {run.folder})"
    return Run(run.config, run.task, _place(run.config, run.task), (note,))


def _place(config: DictConfig, task: Task) -> Path:
    """Fill in the folder of a run whose configuration is decided otherwise, and return it."""
    science = {**configuration.science(config), "fingerprint": task.fingerprint}
    folder = runs.run_folder(
        Path(config.runs).absolute(),
        task=runs.task_folder(task.name, task.is_phantom),
        backbone=config.backbone.name,
        fusion=config.fusion.name,
        n=config.n,
        seed=config.seed,
        digest=runs.identity(science),
    )
    config.folder = str(folder)
    return folder


def make_module(config: DictConfig, structures: int) -> "SegmentationModule":
    """The network with its loss and optimiser, as a configuration describes them."""
    from fdseg.module import SegmentationModule

    return SegmentationModule(
        network=instantiate(config.network, structures=structures),
        loss=instantiate(config.loss),
        optimizer=instantiate(config.optimizer),
        structures=structures,
        seed=config.seed,
    )


@dataclass(frozen=True)
class Point:
    """One run of a sweep, as far as it can be told.

    Attributes:
        swept: the values that this run has and others of the sweep have not, by key.
        words: all its overrides.
        run: the run, or ``None`` where its configuration is unusable.
        state: how it stands.
    """

    swept: Mapping[str, str]
    words: Sequence[str]
    run: Run | None
    state: runs.State


def grid(words: Sequence[str]) -> list[Point]:
    """All runs that ``python -m fdseg.train -m`` would do with these words, in its order.

    Args:
        words: overrides, such as ``+sweep=theta`` or ``n=4,17``.

    Raises:
        FdsegError: a word is not understood, or the sweep is a search without a fixed grid.
    """
    tasks: dict[str, Task] = {}
    points = []
    for swept, job, config in configurations(words):
        try:
            run = find(config, tasks)
        except FdsegError as error:
            points.append(Point(swept, job, None, runs.State("failed", str(error))))
        else:
            points.append(Point(swept, job, run, runs.state(run.folder)))
    return points


def configurations(
    words: Sequence[str],
) -> Iterator[tuple[dict[str, str], list[str], DictConfig]]:
    """Of every run of a sweep its swept values, its overrides, and its configuration.

    Raises:
        FdsegError: a word is not understood, or the sweep is a search without a fixed grid.
    """
    jobs = _jobs(with_paths(words))
    values: dict[str, set[str]] = {}
    for job in jobs:
        for word in job:
            values.setdefault(_key(word), set()).add(word)
    bases: dict[tuple[str, ...], DictConfig] = {}
    for job in jobs:
        swept = {_key(w): w.partition("=")[2] for w in job if len(values[_key(w)]) > 1}
        yield swept, job, _compose(job, bases)


def _jobs(words: Sequence[str]) -> list[list[str]]:
    """The overrides of every job, by Hydra's own sweeper."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parser = OverridesParser.create()
    try:
        parsed = zip(words, parser.parse_overrides(list(words)), strict=True)
        fixed = [word for word, override in parsed if not override.is_sweep_override()]
        with hydra_ready():
            sweeper = hydra.compose(NAME, overrides=fixed, return_hydra_config=True).hydra.sweeper
        if not sweeper._target_.endswith(".BasicSweeper"):
            raise FdsegError(
                f"{sweeper._target_} searches as it goes, so its runs cannot be told beforehand."
            )
        params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        overrides = parser.parse_overrides([*params, *words])
        return BasicSweeper.split_arguments(overrides, None)[0]
    except (HydraException, OmegaConfBaseException) as error:
        raise FdsegError(explain(error, NAME, words)) from None


def _key(word: str) -> str:
    return word.partition("=")[0]


def _compose(job: Sequence[str], bases: dict[tuple[str, ...], DictConfig]) -> DictConfig:
    """A job's configuration. Jobs that differ in plain values share one composition."""
    plain = [word for word in job if _is_plain(word)]
    rest = tuple(word for word in job if not _is_plain(word))
    with hydra_ready():
        try:
            if rest not in bases:
                bases[rest] = hydra.compose(NAME, overrides=list(rest))
            config = copy.deepcopy(bases[rest])
            for override in OverridesParser.create().parse_overrides(plain):
                OmegaConf.update(config, override.key_or_group, override.value())
            return config
        except (HydraException, OmegaConfBaseException):
            try:
                return hydra.compose(NAME, overrides=list(job))  # says better what is wrong
            except HydraException as error:
                raise FdsegError(explain(error, NAME, job)) from None


def _is_plain(word: str) -> bool:
    """Whether a word gives an existing key a value, and chooses no file."""
    key = _key(word)
    return key[0] not in "+~" and "@" not in key and not (FOLDER / key).is_dir()


class Summary(Callback):
    """Hydra's callback that says at the end of a multirun how its runs stand.

    Runs say on their own what went wrong, into their folders and wherever they ran; here it stands
    together, and the command's exit status tells of failures.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the states, and which runs are not done; end with status 1 if there is one."""
        try:
            points = grid(list(config.hydra.overrides.task))
        except FdsegError:  # a search has no grid, and its sweeper tells how it went
            return
        print("\n" + counts(points), flush=True)
        left = [point for point in points if point.state.name != "done"]
        for point in left:
            words = f"  {point.state.name}: {label(point)}: {point.state.reason}"
            print(words.removesuffix(": "), file=sys.stderr)
        if left:
            print(
                "A failure's traceback is in its run's failure.json. The same command goes on with "
                "these runs and leaves the finished ones alone.",
                file=sys.stderr,
            )
            raise SystemExit(1)


def counts(points: Sequence[Point]) -> str:
    """``12 runs: 9 done, 1 running, 2 missing``."""
    names = [p.state.name for p in points]
    order = ("done", "running", "stopped", "failed", "missing")
    parts = [f"{names.count(name)} {name}" for name in order if name in names]
    return f"{counted(len(points), 'run')}: {', '.join(parts)}"


def label(point: Point) -> str:
    """What tells a run from the others of its sweep: ``n=4 seed=0 fusion=early``."""
    return " ".join(f"{key}={value}" for key, value in point.swept.items()) or "the run"
