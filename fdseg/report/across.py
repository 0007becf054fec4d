"""What stands across the tasks of a report: the gain beside what their labels are made of."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fdseg.report.arms import Arm, Study
from fdseg.report.departures import value_at
from fdseg.report.drawing import Drawing, look, panels, style
from fdseg.report.findings import Findings
from fdseg.report.paper import FUSIONS


@dataclass(frozen=True)
class Gain:
    """What a fusion gains on a task, beside the share of its labels' energy above θ.

    Attributes:
        task: its name; a phantom's says so.
        fusion: early, late or another.
        share: of the energy of the labels, 0 to 1.
        mean, low, high: of the difference in Dice to none, with its interval, in points.
    """

    task: str
    fusion: str
    share: float
    mean: float
    low: float
    high: float


def across(found: Sequence[Findings]) -> list[Drawing]:
    """The figure of real tasks and that of phantoms, each where it has two tasks or more.

    At the smallest n of each task, for the arms in the table's own settings. The shares are those
    that ``fdseg.spectra`` wrote with the arms' θ; a task without them is not in the figure.
    """
    drawings = []
    for phantom in (False, True):
        points = [gain for f in found if f.study.phantom == phantom for gain in _gains(f)]
        if len({gain.task for gain in points}) > 1:
            name, title = ("across-phantom", "PHANTOM tasks") if phantom else ("across", "Tasks")
            drawings.append(gains(name, title, points))
    return drawings


def _gains(found: Findings) -> list[Gain]:
    study, points = found.study, []
    for fusion in FUSIONS[1:]:
        arm = study.reference_arm(fusion)
        contrast = found.gain(study.sizes[0], arm, "dice")
        share = None if arm is None else _share(study, arm)
        if contrast is not None and share is not None:
            low, high = contrast.interval
            values = (100 * v for v in (contrast.comparison.mean, low, high))
            points.append(Gain(study.title, fusion, share, *values))
    return points


def _share(study: Study, arm: Arm) -> float | None:
    """Mean over the cases of the share of the labels' energy that lies above the arm's θ."""
    run = next(iter(arm.runs.values()))[0]
    try:
        with (run.folder.parents[3] / "cohort" / "above_theta.csv").open(newline="") as file:
            rows = [(float(row["theta"]), float(row["label"])) for row in csv.DictReader(file)]
    except (OSError, IndexError, KeyError, TypeError, ValueError, csv.Error):
        return None
    shares = [share for theta, share in rows if theta == value_at(arm.settings, "theta")]
    return float(np.nanmean(shares)) if any(map(math.isfinite, shares)) else None


def gains(name: str, title: str, found: Sequence[Gain]) -> Drawing:
    """Gain in Dice against the share of the labels' energy above θ, a point for task and fusion.

    Args:
        name: of the files.
        title: above the figure.
        found: the points.
    """
    fusions = list(dict.fromkeys(gain.fusion for gain in found))
    with look():
        figure, ((axis,),) = panels(title, 1, 1, width=4.6, height=3.2)
        axis.axhline(0, color="black", lw=0.8)
        for fusion in fusions:
            own = [gain for gain in found if gain.fusion == fusion]
            bars = np.array([[g.mean - g.low for g in own], [g.high - g.mean for g in own]]).clip(0)
            axis.errorbar(
                [100 * gain.share for gain in own], [gain.mean for gain in own], bars,
                ls="none", label=fusion, **style(fusion, fusions),
            )  # fmt: skip
        for task in dict.fromkeys(gain.task for gain in found):
            share = next(gain.share for gain in found if gain.task == task)
            top = max(gain.high for gain in found if gain.task == task)
            axis.annotate(task, (100 * share, top), (0, 3), textcoords="offset points", ha="center")
        axis.margins(x=0.15, y=0.15)
        axis.set_xlabel("energy of the labels above θ [%]")
        axis.set_ylabel("Dice − none [points]")
        axis.legend()
    named = "; ".join(f"{g.task}, {g.fusion}: {100 * g.share:.1f} %, {g.mean:+.1f}" for g in found)
    return Drawing(
        name,
        "Gain over none against the share of the labels' energy that lies above θ, with its 95 % "
        "interval.",
        f"{title}: energy above θ, and gain in Dice points: {named}.",
        figure,
    )
