"""``python -m fdseg.train``: one run, from NIfTI volumes to a scored result.

What only a run that trains needs is imported where that run begins, so that help, printing the
configuration and finished runs answer at once.
"""

import sys
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.sweep import Run, find, make_module

if TYPE_CHECKING:
    import lightning as L

    from fdseg.callbacks import TestScores
    from fdseg.data.task import Task


def run(config: DictConfig) -> float:
    """Train, validate and test the run that a configuration describes, unless that was done.

    Returns:
        Dice of the best epoch on the validation set, for hyper-parameter searches.
    """
    start = time.perf_counter()
    found = find(config)
    _announce(found)
    result = runs.read_result(found.folder)
    if result is None:
        with runs.only_process(found.folder), runs.recorded(found.folder):
            result = _work(found, start)
    _print_result(result, found.folder)
    return result["validation"]["dice"]


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
    config, task, folder = found.config, found.task, found.folder
    configuration.check_arguments(config)
    import lightning as L
    import torch

    from fdseg.callbacks import TestScores, WholeCheckpoints
    from fdseg.data.datamodule import SegmentationData
    from fdseg.frequency import BoxSplit
    from fdseg.manifest import manifest
    from fdseg.networks.disentangled import require_size
    from fdseg.report.run import log, overlays

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

    runs.write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    runs.write_text(folder / "split.json", task.subjects.to_json())
    scores = TestScores(instantiate(config.scores), folder / "predictions")
    trainer: L.Trainer = instantiate(
        config.trainer,
        callbacks=[*instantiate(config.callbacks).values(), scores],
        logger=[*instantiate(config.logger).values()] or False,
        plugins=[WholeCheckpoints()],
        default_root_dir=str(folder),
    )
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    if last.is_file():
        print(f"Resuming from {last}")
    prepared = time.perf_counter()
    trainer.fit(module, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    trainer.save_checkpoint(last)  # the callback saves every few epochs only
    trained = time.perf_counter()
    tested = checkpoints / f"{config.checkpoint}.ckpt"
    trainer.test(module, data, ckpt_path=tested, weights_only=True, verbose=False)
    finished = time.perf_counter()

    result = _result(trainer, module, scores, config, task)
    runs.write_csv(folder / "cases.csv", list(scores.rows[0]), scores.rows)
    split = getattr(module.network, "split", None) or BoxSplit()
    pictures = overlays(folder, data.test.cases, scores.rows, task, data.preprocessing, split)
    runs.write_json(
        folder / "manifest.json",
        manifest(
            task=task,
            drawn=data.drawn,
            parameters=sum(p.numel() for p in module.network.parameters()),
            device=str(trainer.strategy.root_device),
            seconds={
                "preparation": prepared - start,
                "training": trained - prepared,
                "test": finished - trained,
            },
        ),
    )
    for logger in trainer.loggers:
        log(logger, OmegaConf.to_container(config, resolve=True), scores.rows, result, pictures)
    runs.write_json(folder / "result.json", result)
    return result


def _result(
    trainer: "L.Trainer",
    module: "SegmentationModule",
    scores: "TestScores",
    config: DictConfig,
    task: "Task",
) -> dict[str, Any]:
    best = next(c for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None))
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
        "validation": {"dice": float(best.best_model_score)},  # type: ignore[attr-defined]
        "test": runs.summarise(scores.rows),
    }


def _print_result(result: dict[str, Any], folder: Path) -> None:
    test = result["test"]
    mark = "PHANTOM " if result["phantom"] else ""
    print(
        f"\n{mark}{result['task']}, {result['backbone']}, fusion {result['fusion']}, "
        f"n={result['n']}, seed {result['seed']}: {test['subjects']} test subjects, "
        f"mean ± SEM\n\n  {'structure':<20}{'Dice':>16}{'HD95 [mm]':>18}{'NSD':>16}"
    )
    structures = test["structures"]
    lines = {**structures, "all": test} if len(structures) > 1 else structures
    for name, values in lines.items():
        cells = [
            f"{values[metric]['mean']:.{digits}f} ± {values[metric]['sem'] or 0:.{digits}f}"
            for metric, digits in (("dice", 4), ("hd95_mm", 2), ("nsd", 4))
        ]
        print(f"  {name:<20}{cells[0]:>16}{cells[1]:>18}{cells[2]:>16}")
    if test["missed"]:
        print(f"  {test['missed']} structures were missed altogether: Dice 0, HD95 the diagonal.")
    print(f"\n{folder}")


def _quiet() -> None:
    """Leave out what Lightning says of its own accord and a user cannot act upon."""
    import logging

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)


main = configuration.entry_point(run, "train")

if __name__ == "__main__":
    sys.exit(main())
