"""What a run shows of itself: pictures of test subjects, and what its loggers get at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdseg.data.cache import PreparedCase
from fdseg.data.preprocess import Preprocessing
from fdseg.data.task import Task
from fdseg.frequency import Split
from fdseg.report.case import picture
from fdseg.runs import ranks


def overlays(
    folder: Path,
    cases: Sequence[PreparedCase],
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    preprocessing: Preprocessing,
    split: Split,
) -> dict[str, Path]:
    """Write the overlays of the best, the median and the worst test subject of a run.

    Args:
        folder: of the run, with its ``predictions``.
        cases: the test cases.
        rows: of ``cases.csv``.
        task: names the structures.
        preprocessing: by which the cases were prepared.
        split: the bands to show.

    Returns:
        The picture of each rank.
    """
    subjects = len({row["case"] for row in rows})
    pictures = {}
    for rank, (case, dice) in ranks(rows).items():
        title = f"{case}, the {rank} of {subjects} test subjects: Dice {dice:.3f}"
        pictures[rank] = folder / "overlays" / f"{rank}.png"
        picture(
            pictures[rank],
            next(prepared for prepared in cases if prepared.case.name == case),
            folder / "predictions" / f"{case}.nii.gz",
            preprocessing=preprocessing,
            task=task,
            split=split,
            title=f"PHANTOM {title}" if task.is_phantom else title,
        )
    return pictures


def log(
    logger: Any,
    config: Any,
    rows: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    pictures: Mapping[str, Path],
) -> None:
    """Give a Lightning logger what a dashboard shows: scalars, the test cases, the pictures.

    Args:
        logger: Lightning's, for W&B or TensorBoard; it is closed, a sweep's next run has its own.
        config: the resolved configuration, plain.
        rows: of ``cases.csv``.
        result: as in ``result.json``.
        pictures: of :func:`overlays`.
    """
    logger.log_hyperparams(config)
    logger.log_metrics({f"test/{m}": result["test"][m]["mean"] for m in ("dice", "hd95_mm", "nsd")})
    if hasattr(logger, "log_table"):  # W&B
        logger.log_image("overlays", [str(p) for p in pictures.values()], caption=list(pictures))
        table = [list(row.values()) for row in rows]
        logger.log_table("test/cases", columns=list(rows[0]), data=table)
        logger.experiment.finish()
    elif hasattr(logger.experiment, "add_image"):  # TensorBoard
        from matplotlib.image import imread

        for rank, path in pictures.items():
            logger.experiment.add_image(f"overlays/{rank}", imread(path), dataformats="HWC")
    logger.finalize("success")
