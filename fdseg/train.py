"""``python -m fdseg.train``: one run, from NIfTI volumes to a scored result.

What only a run that trains needs is imported where that run begins, so that help, printing the
configuration and finished runs answer at once.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fdseg import config as configuration
from fdseg import runs

if TYPE_CHECKING:
    import lightning as L

    from fdseg.callbacks import TestScores
    from fdseg.data.task import Task
    from fdseg.module import SegmentationModule


def run(config: DictConfig) -> float:
    """Train, validate and test the run that a configuration describes, unless that was done.

    Returns:
        Dice of the best epoch on the validation set, for hyper-parameter searches.
    """
    start = time.perf_counter()
    configuration.resolve(config)
    task: Task = instantiate(config.data, _convert_="all")
    _announce(task)
    folder = _folder(config, task)
    result = runs.read_result(folder)
    if result is None:
        with runs.only_process(folder):
            result = _work(config, task, folder, start)
    _print_result(result, folder)
    return result["validation"]["dice"]


def _announce(task: "Task") -> None:
    if task.is_phantom:
        rule = "*" * 78
        print(
            f"{rule}\n* PHANTOM COHORT: data.root is unset, so this is synthetic data. Its results "
            f"say\n* nothing about patients. Set FDSEG_DATA or data.root to use real volumes.\n"
            f"{rule}"
        )
    print(task.summary(), flush=True)


def _folder(config: DictConfig, task: "Task") -> Path:
    """The run's folder, from everything that decides its numbers."""
    if config.trainer.precision == "auto":
        config.trainer.precision = _precision(config.trainer.accelerator)
    task.draw(config.n, config.seed)  # refuses an n that is too large
    digest = runs.identity({**configuration.science(config), "fingerprint": task.fingerprint})
    folder = runs.run_folder(
        Path(config.runs).absolute(),
        task=task.name + ("-phantom" if task.is_phantom else ""),
        backbone=config.backbone.name,
        fusion=config.fusion.name,
        n=config.n,
        seed=config.seed,
        digest=digest,
    )
    config.folder = str(folder)
    return folder


def _precision(accelerator: str) -> str:
    """bf16-mixed where the processor or GPU computes it natively; elsewhere it is slower."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        where = torch.cuda.get_device_name()
    elif accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        native, where = False, "this GPU"
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        where = "this processor"
    chosen = "bf16-mixed" if native else "32-true"
    print(f"Precision: {chosen} ({where} {'has' if native else 'lacks'} native bfloat16)")
    return chosen


def _work(config: DictConfig, task: "Task", folder: Path, start: float) -> dict[str, Any]:
    configuration.check_arguments(config)
    import lightning as L
    import torch

    from fdseg.callbacks import TestScores
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
    module = _module(config, task)
    require_size(module.network, task.size)
    data.prepare_data()

    runs.write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    runs.write_text(folder / "split.json", task.subjects.to_json())
    scores = TestScores(instantiate(config.scores), folder / "predictions")
    trainer: L.Trainer = instantiate(
        config.trainer,
        callbacks=[*instantiate(config.callbacks).values(), scores],
        logger=[*instantiate(config.logger).values()] or False,
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


def _module(config: DictConfig, task: "Task") -> "SegmentationModule":
    from fdseg.module import SegmentationModule

    structures = len(task.structures)
    return SegmentationModule(
        network=instantiate(config.network, structures=structures),
        loss=instantiate(config.loss),
        optimizer=instantiate(config.optimizer),
        structures=structures,
        seed=config.seed,
    )


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
