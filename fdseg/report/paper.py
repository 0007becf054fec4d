"""The numbers of Fu et al. (2024), tables 2 and 3: 51 cells of task, n and fusion.

`paper.csv` holds them as printed: Dice in points of 100, HD95 in mm, both mean ± SEM over test
subjects, and which were bold.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

#: In the order of the tables.
FUSIONS = ("none", "early", "late")

#: The paper's settings, as a run's configuration names them.
SETTINGS = {
    "theta": 0.1,
    "split._target_": "fdseg.frequency.BoxSplit",
    "augmentation.transform": None,
    "backbone.name": "unet",
    "data.split.by": "participant",
}


@dataclass(frozen=True)
class Measured:
    """Mean and SEM over test subjects, and whether the paper prints it bold."""

    mean: float
    sem: float
    bold: bool

    def allows(self, mean: float, sem: float) -> bool:
        """Whether another mean differs by no more than the two SEMs explain, in 95 % of cases.

        |difference| ≤ 1.96 √(SEM² + SEM²): the normal interval of two independent means.
        """
        return abs(mean - self.mean) <= 1.96 * math.hypot(sem, self.sem)


@dataclass(frozen=True)
class Cell:
    """One row of table 2 or 3; percent is n as a share of all training subjects."""

    percent: float
    dice: Measured
    hd95: Measured


def _read() -> dict[tuple[str, int, str], Cell]:
    with Path(__file__).with_name("paper.csv").open(newline="") as file:
        return {
            (row["task"], int(row["n"]), row["fusion"]): Cell(
                float(row["percent"]),
                *(
                    Measured(
                        float(row[f"{metric}_mean"]),
                        float(row[f"{metric}_sem"]),
                        row[f"{metric}_bold"] == "1",
                    )
                    for metric in ("dice", "hd95")
                ),
            )
            for row in csv.DictReader(file)
        }


#: By task, n and fusion, in the paper's order.
PAPER = _read()
