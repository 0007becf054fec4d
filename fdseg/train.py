"""``python -m fdseg.train``: one run, from NIfTI volumes to a scored result.

What only a run that trains needs is imported where that run begins, so that help, printing the
configuration and finished runs answer at once.
"""

import math
import os
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.compose import check_arguments
from fdseg.errors import WrongPrecisionError
from fdseg.sweep import Run, find, make_module, settled
from fdseg.terminal import counted

if TYPE_CHECKING:
    import lightning as L

    from fdseg.callbacks import TestScores
    from fdseg.data.datamodule import SegmentationData
    from fdseg.data.task import Task
    from fdseg.module import SegmentationModule


def run(config: DictConfig) -> float:
    """Train, validate and test the run that a configuration describes, unless that was done.

    Returns:
        Dice of the best epoch on the validation set, for hyper-parameter searches.
    """
    start = time.perf_counter()
    found = find(config)
    if _is_helper():
        _work(found, start)
        return math.nan
    _announce(found)
    try:
        result = _done(found, start)
    except WrongPrecisionError as error:
        found = settled(found)
        if config.trainer.precision != "32-true" or _several_processes():
            raise
        print(f"warning: {error} The run is trained in it.", file=sys.stderr)
        result = _done(found, start)
    _print_result(result, found.folder)
    return result["validation"]["dice"]


def _done(found: Run, start: float) -> dict[str, Any]:
    """Return the result of a run, which is trained unless that was done."""
    result = runs.read_result(found.folder)
    if result is None:
        if fault := runs.result_fault(found.folder):
            warnings.warn(f"{found.folder}: {fault}; the run is not done and goes on", stacklevel=1)
        with runs.only_process(found.folder), runs.recorded(found.folder):
            result = _work(found, start)
    return result


def _is_helper() -> bool:
    """Whether another process leads this run: of several devices, the first one does."""
    ranks = ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK")
    return any(int(os.environ.get(rank, 0)) for rank in ranks)


def _several_processes() -> bool:
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


@cache
def _say(*lines: str) -> None:
    """Print what the runs of a sweep have in common once."""
    print(*lines, sep="\n", flush=True)


def _announce(found: Run) -> None:
    rule = "*" * 78
    phantom = (
        f"{rule}\n* PHANTOM COHORT: data.root is unset, so this is synthetic data. Its results "
        f"say\n* nothing about patients. Set FDSEG_DATA or data.root to use real volumes.\n{rule}"
    )
    _say(*[phantom] * found.task.is_phantom, found.task.summary(), *found.notes)


def _work(found: Run, start: float) -> dict[str, Any]:
    """Train and test; several processes train together, the first one tests alone."""
    config, task, folder = found.config, found.task, found.folder
    check_arguments(config)
    import torch

    from fdseg.callbacks.guard import interruptible
    from fdseg.data.datamodule import SegmentationData
    from fdseg.networks.disentangled import require_size
    from fdseg.report.loggers import opened

    _quiet()
    data = SegmentationData(
        task,
        config.n,
        config.seed,
        augmentation=instantiate(config.augmentation.transform),
        **config.loader,
    )
    torch.manual_seed(config.seed)
    module = make_module(config, len(task.structures))
    require_size(module.network, task.size)
    data.prepare_data()
    if not _is_helper():
        runs.write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        runs.write_text(folder / "split.json", task.subjects.to_json())
    made = instantiate(config.logger, _convert_="all").values()
    with opened(made, required=False) as loggers, interruptible():
        return _train(found, module, data, loggers, start)


def _train(
    found: Run,
    module: "SegmentationModule",
    data: "SegmentationData",
    loggers: list[Any],
    start: float,
) -> dict[str, Any]:
    import torch

    from fdseg.callbacks import TestScores

    config, folder = found.config, found.folder
    scores = TestScores(instantiate(config.scores), folder / "predictions")
    trainer = _trainer(config, scores, loggers)
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        _say(f"Resuming from {last}")
    prepared = time.perf_counter()
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    trainer.save_checkpoint(last)  # the callback saves every few epochs only
    best = next(c for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None))
    if trainer.world_size > 1:
        torch.distributed.destroy_process_group()
        if _is_helper():
            return {}
        trainer = _trainer(config, scores, loggers, devices=1, num_nodes=1, strategy="auto")
    trained = time.perf_counter()
    tested = last.with_name(f"{config.checkpoint}.ckpt")
    trainer.test(module, data, ckpt_path=tested, weights_only=True, verbose=False)
    seconds = {
        "preparation": prepared - start,
        "training": trained - prepared,
        "test": time.perf_counter() - trained,
    }
    validation = float(best.best_model_score)  # type: ignore[attr-defined]
    return _finish(found, trainer, module, data, scores, validation, seconds)


def _trainer(
    config: DictConfig, scores: "TestScores", loggers: list[Any], **options: Any
) -> "L.Trainer":
    from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    from fdseg.callbacks import WholeCheckpoints

    plugins: list[Any] = [WholeCheckpoints(Path(config.folder).name.rpartition("-")[2])]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning would answer SIGUSR1 with a checkpoint of its own, and resume from that alone.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    return instantiate(
        config.trainer,
        callbacks=[*instantiate(config.callbacks).values(), scores],
        logger=loggers or False,
        plugins=plugins,
        default_root_dir=config.folder,
        **options,
    )


def _finish(
    found: Run,
    trainer: "L.Trainer",
    module: "SegmentationModule",
    data: "SegmentationData",
    scores: "TestScores",
    validation: float,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Write what a run leaves, the result last, and show it."""
    from fdseg.frequency import BoxSplit
    from fdseg.manifest import manifest
    from fdseg.report.dashboard import show, view
    from fdseg.report.optional import optional
    from fdseg.report.run import overlays

    config, task, folder = found.config, found.task, found.folder
    result = _result(config, task, module, scores, validation)
    runs.write_csv(folder / "cases.csv", list(scores.rows[0]), scores.rows)
    split = getattr(module.network, "split", None) or BoxSplit()
    overlays(folder, data.test.cases, scores.rows, task, data.preprocessing, split)
    runs.write_json(
        folder / "manifest.json",
        manifest(
            task=task,
            drawn=data.drawn,
            parameters=sum(p.numel() for p in module.network.parameters()),
            device=str(trainer.strategy.root_device),
            seconds=seconds,
            checkpoints=folder / "checkpoints",
        ),
    )
    runs.write_json(folder / "result.json", result)
    if trainer.loggers:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        with optional(folder, "view for dashboards"):
            show(trainer.loggers, view(folder, plain, result))
    return result


def _result(
    config: DictConfig,
    task: "Task",
    module: "SegmentationModule",
    scores: "TestScores",
    validation: float,
) -> dict[str, Any]:
    return {
        "task": task.name,
        "phantom": task.is_phantom,
        "backbone": config.backbone.name,
        "fusion": config.fusion.name,
        "n": config.n,
        "seed": config.seed,
        "theta": OmegaConf.to_object(config).get("theta"),  # type: ignore[union-attr]
        **{f"learned_{name}": float(value) for name, value in module.learned().items()},
        "checkpoint": config.checkpoint,
        "validation": {"dice": validation},
        "test": runs.summarise(scores.rows),
    }


def _print_result(result: dict[str, Any], folder: Path) -> None:
    from fdseg.report.table import table

    test = result["test"]
    mark = "PHANTOM " if result["phantom"] else ""
    print(
        f"\n{mark}{result['task']}, {result['backbone']}, fusion {result['fusion']}, "
        f"n={result['n']}, seed {result['seed']}: {test['subjects']} test subjects, mean ± SEM\n"
    )
    columns = {"dice": ("Dice", 4), "hd95_mm": ("HD95 [mm]", 2), "nsd": ("NSD", 4)}
    print(table(test, columns))
    if test["missed"]:
        what = counted(test["missed"], "structure")
        print(f"  Missed altogether: {what}, with Dice 0 and the diagonal as HD95.")
    print(f"\n{folder}")


def _quiet() -> None:
    """Leave out what Lightning says of its own accord and a user cannot act upon."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)


main = configuration.entry_point(run, "train")

if __name__ == "__main__":
    sys.exit(main())
