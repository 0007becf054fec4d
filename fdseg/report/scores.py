"""``scores.csv``: every test case of every run, enough to test and draw again without the runs."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fdseg.errors import FdsegError
from fdseg.report.arms import Arm, Study
from fdseg.report.finished import METRICS, CaseScores, Run
from fdseg.runs import write_csv

_COLUMNS = (
    "task", "phantom", "arm", "against", "n", "seed", "case", "participant", *METRICS, "missed",
)  # fmt: skip


def write_scores(path: Path, studies: Sequence[Study]) -> None:
    """Write one row per test case and run.

    ``against`` is the arm that is the baseline of this one, empty where there is none (and where
    the two took HD95 differently); each score is the mean over the structures of a case, of which
    so many were ``missed``.
    """
    rows = []
    for study in studies:
        for arm in study.arms:
            baseline = study.baseline(arm, "hd95_mm")
            against = baseline.name if baseline else ""
            rows += [
                (study.task, study.phantom, arm.name, against, run.n, run.seed, case.case,
                 case.participant, *case.scores.values(), case.missed)
                for runs in arm.runs.values() for run in runs for case in run.cases
            ]  # fmt: skip
    write_csv(path, _COLUMNS, (dict(zip(_COLUMNS, row, strict=True)) for row in rows))


def read_scores(path: Path) -> tuple[Study, ...]:
    """The studies of a table that :func:`write_scores` wrote, their arms named as there.

    What runs keep beside their scores (settings, manifests, histories) is not in it: the tables of
    results, comparisons and arms, and the figures of scores, differences and controls need no more.

    Raises:
        FdsegError: there is no such table, or it is not one of :func:`write_scores`.
    """
    studies: dict[tuple[str, bool], dict[str, _Rows]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file, strict=True):
                phantom = {"True": True, "False": False}[row["phantom"]]
                arms = studies.setdefault((row["task"], phantom), {})
                arm = arms.setdefault(row["arm"], _Rows(row["against"] or row["arm"]))
                cases = arm.cases.setdefault((int(row["n"]), int(row["seed"])), [])
                scores = {metric: float(row[metric]) for metric in METRICS}
                if any(math.isnan(value) for value in scores.values()):
                    raise ValueError("a score is not a number")
                if any(case.case == row["case"] for case in cases):
                    raise ValueError(f"{row['case']} stands twice for one run")
                missed = int(row["missed"])
                cases.append(CaseScores(row["case"], row["participant"], scores, missed))
    except OSError as error:
        raise FdsegError(f"{path}: cannot be read ({error.strerror}).") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise FdsegError(
            f"{path}: not a scores.csv of fdseg.report ({type(error).__name__}: {error}). Make it "
            "with python -m fdseg.report runs=…; tables of two reports do not go into one file."
        ) from None
    if not studies:
        raise FdsegError(f"{path}: holds no scores.")
    return tuple(
        Study(
            task, phantom, tuple(a.arm(path, task, phantom, name) for name, a in arms.items()), ()
        )
        for (task, phantom), arms in studies.items()
    )


@dataclass(frozen=True)
class _Rows:
    """The rows of an arm.

    Attributes:
        against: its baseline, or itself.
        cases: by n and seed.
    """

    against: str
    cases: dict[tuple[int, int], list[CaseScores]] = field(default_factory=dict)

    def arm(self, path: Path, task: str, phantom: bool, name: str) -> Arm:
        """The arm; that arms are compared is all that its settings say."""
        fusion, *departures = name.split(", ")
        settings = {"against": self.against}
        runs: dict[int, tuple[Run, ...]] = {}
        for (n, seed), cases in sorted(self.cases.items()):
            run = Run(path, task, phantom, fusion, n, seed, settings, tuple(cases), {})
            runs[n] = (*runs.get(n, ()), run)
        return Arm(fusion, tuple(departures), runs, settings)
