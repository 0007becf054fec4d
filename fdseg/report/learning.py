"""Learning curves: training loss and validation Dice, over the seeds of an arm."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdseg.report.arms import Arm
from fdseg.report.drawing import Drawing, panels, style
from fdseg.report.findings import Findings
from fdseg.report.finished import read_history
from fdseg.report.paper import FUSIONS

Curve = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

_SHOWN = {"train_loss": ("training loss", 1), "validation_dice": ("validation Dice [points]", 100)}


def learning(found: Findings) -> Drawing | None:
    """Mean and spread over seeds of the reference arms; ``None`` without a history."""
    study = found.study
    arms = [arm for fusion in FUSIONS if (arm := study.reference_arm(fusion))]
    curves: dict[tuple[int, str, str], Curve] = {}
    for arm in arms:
        for n in arm.runs:
            for column, curve in _curves(arm, n).items():
                curves[n, arm.fusion, column] = curve
    if not curves:
        return None
    sizes = sorted({n for n, *_ in curves})
    figure, axes = panels(study.title, 2, len(sizes), width=2.6, height=2.1, sharey="row")
    for row, (column, (label, factor)) in zip(axes, _SHOWN.items(), strict=True):
        row[0].set_ylabel(label)
        for axis, n in zip(row, sizes, strict=True):
            for fusion in (arm.fusion for arm in arms if (n, arm.fusion, column) in curves):
                epochs, mean, deviation = curves[n, fusion, column]
                low, high = factor * (mean - deviation), factor * (mean + deviation)
                colour = style(fusion)["color"]
                axis.plot(epochs, factor * mean, color=colour, lw=1, label=fusion)
                axis.fill_between(epochs, low, high, color=colour, alpha=0.18, lw=0)
    for upper, lower, n in zip(*axes, sizes, strict=True):
        upper.set_title(f"n = {n}")
        lower.set_xlabel("epoch")
    axes[0][0].legend()
    ends = "; ".join(
        f"n = {n}, {fusion}: {100 * mean[-1]:.1f}"
        for (n, fusion, column), (_, mean, _) in curves.items()
        if column == "validation_dice"
    )
    return Drawing(
        f"{study.name}-learning",
        "Learning curves: mean over seeds, with a band of one standard deviation of the seeds.",
        f"{study.title}: loss and Dice against the epoch. Validation Dice at the end: {ends}.",
        figure,
    )


def _curves(arm: Arm, n: int) -> dict[str, Curve]:
    """Epochs that all seeds have, and mean and standard deviation over the seeds at each."""
    histories = [rows for run in arm.runs[n] if (rows := read_history(run))]
    curves = {}
    for column in _SHOWN:
        seeds = [{row["epoch"]: row[column] for row in rows if column in row} for rows in histories]
        epochs = sorted(set.intersection(*map(set, seeds))) if seeds else []
        if epochs:
            table = np.array([[seed[epoch] for epoch in epochs] for seed in seeds])
            deviation = table.std(axis=0, ddof=1 if len(seeds) > 1 else 0)
            curves[column] = np.array(epochs), table.mean(axis=0), deviation
    return curves
