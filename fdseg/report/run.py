"""What a run shows of itself: pictures of its test subjects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdseg.data.cache import PreparedCase
from fdseg.data.preprocess import Preprocessing
from fdseg.data.task import Task
from fdseg.frequency import Split
from fdseg.report.case import picture
from fdseg.report.optional import optional
from fdseg.runs import ranks


def overlays(
    folder: Path,
    cases: Sequence[PreparedCase],
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    preprocessing: Preprocessing,
    split: Split,
) -> None:
    """Write the overlays of the best, the median and the worst test subject of a run.

    Args:
        folder: of the run, with its ``predictions``.
        cases: the test cases.
        rows: of ``cases.csv``.
        task: names the structures.
        preprocessing: by which the cases were prepared.
        split: the bands to show.
    """
    subjects = len({row["case"] for row in rows})
    for rank, (case, dice) in ranks(rows).items():
        title = f"{case}, the {rank} of {subjects} test subjects: Dice {dice:.3f}"
        path = folder / "overlays" / f"{rank}.png"
        with optional(path):
            picture(
                path,
                next(prepared for prepared in cases if prepared.case.name == case),
                folder / "predictions" / f"{case}.nii.gz",
                preprocessing=preprocessing,
                task=task,
                split=split,
                title=f"PHANTOM {title}" if task.is_phantom else title,
            )
