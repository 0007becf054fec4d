"""All figures of a report; here scores against n, paired differences, θ, and controls."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from fdseg.report.contrasts import SHOWN, Cell, Contrast
from fdseg.report.drawing import Drawing, look, panels, style
from fdseg.report.findings import Findings
from fdseg.report.learning import learning
from fdseg.report.optional import optional
from fdseg.report.paper import FUSIONS, PAPER
from fdseg.report.spectra import errors
from fdseg.report.widths import widths

_NOTHING = (float("nan"),) * 3


def figures(found: Findings) -> list[Drawing]:
    """All figures that a study has the runs for."""
    with look():
        drawings: list[Drawing | None] = []
        for draw in (scores, differences, theta, controls, learning, errors, widths):
            with optional(Path(f"{found.study.name}-{draw.__name__}.svg")):
                drawings.append(draw(found))
    return [drawing for drawing in drawings if drawing is not None]


def scores(found: Findings) -> Drawing | None:
    """Dice and HD95 of the reference arms against n."""
    study = found.study
    cells = [c for c in found.cells if not c.arm.departures and c.arm.fusion in FUSIONS]
    if not cells:
        return None
    sizes = sorted({cell.n for cell in cells})
    figure, axes = panels(study.title, 1, 2, width=4.4, height=3.2)
    for axis, (metric, shown) in zip(axes[0], SHOWN.items(), strict=True):
        for place, fusion in enumerate(FUSIONS):
            own = [cell for cell in cells if cell.arm.fusion == fusion]
            x = [cell.n * 1.05 ** (place - 1) for cell in own]  # side by side
            _line(axis, x, own, metric, fusion)
            for at, cell in zip(x, own, strict=True):
                contrast = found.gain(cell.n, cell.arm, metric)
                if contrast is not None and contrast.bold:
                    axis.annotate(
                        "★", (at, _point(cell, metric)[2]), (0, 2), textcoords="offset points",
                        ha="center", color=style(fusion)["color"], fontfamily="DejaVu Sans",
                    )  # fmt: skip
            if not study.phantom:
                printed = [
                    (n, PAPER[key]) for n in sizes if (key := (study.task, n, fusion)) in PAPER
                ]
                means = [getattr(cell, shown.name.lower()).mean for _, cell in printed]
                axis.plot(
                    [n for n, _ in printed], means, "_:", color=style(fusion)["color"], lw=1.2
                )
        axis.set_xscale("log")
        axis.set_xticks(sizes, labels=[str(n) for n in sizes])
        axis.minorticks_off()
        axis.set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
        axis.set_xlabel("training subjects n")
        axis.set_title(f"{shown.name} [{shown.unit}]")
    axes[0][0].legend(title=None if study.phantom else "dotted: the paper")
    named = [f"n = {c.n}, {c.arm.fusion}: {_point(c, 'dice')[0]:.1f}" for c in cells]
    return Drawing(
        f"{study.name}-scores",
        "Scores against n. Bars: 95 % intervals of the mean over test subjects. ★: bold in the "
        "table.",
        f"{study.title}: Dice and HD95 against n. Mean Dice in points: {'; '.join(named)}.",
        figure,
    )


def differences(found: Findings) -> Drawing | None:
    """What each test subject gains from early and late fusion, by n."""
    study = found.study
    contrasts = {
        (c.n, c.arm.fusion, c.metric): c
        for c in found.gains
        if not c.arm.departures and c.arm.fusion in FUSIONS
    }
    if not contrasts:
        return None
    sizes = sorted({n for n, *_ in contrasts})
    fusions = [f for f in FUSIONS if any(f == fusion for _, fusion, _ in contrasts)]
    figure, axes = panels(study.title, 2, len(sizes), width=2.1, height=2.6, sharey="row")
    jitter = np.random.default_rng(0)
    for row, (metric, shown) in zip(axes, SHOWN.items(), strict=True):
        arrow = "↑" if shown.more else "↓"
        row[0].set_ylabel(f"{shown.name} − none [{shown.unit}], {arrow} better")
        for axis, n in zip(row, sizes, strict=True):
            axis.axhline(0, color="black", lw=0.8)
            for place, fusion in enumerate(fusions):
                contrast = contrasts.get((n, fusion, metric))
                if contrast is None:
                    continue
                values = contrast.comparison.difference.means * shown.factor
                x = place + jitter.uniform(-0.25, 0.25, len(values))
                colour = style(fusion)["color"]
                axis.plot(x, values, "o", ms=3.5, mec="none", alpha=0.4, color=colour)
                mean, low, high = _gain(contrast)
                axis.errorbar(place, mean, _bars(mean, low, high), fmt="_", ms=12, color="black")
                axis.add_artist(Line2D([place] * 2, _with_seeds(contrast), color="black", lw=0.7))
            axis.set_xticks(range(len(fusions)), labels=fusions)
            axis.set_xlim(-0.6, len(fusions) - 0.4)
            axis.grid(visible=False, axis="x")
            axis.set_title(f"n = {n}")
    gains = [
        f"n = {n}, {fusion}: {_gain(c)[0]:+.1f}"
        for (n, fusion, metric), c in contrasts.items()
        if metric == "dice"
    ]
    return Drawing(
        f"{study.name}-differences",
        "What each test subject gains over none, a point per subject (the mean of its seeds). "
        "Black: mean and its 95 % BCa interval; thin: for other seeds as well, cut at the frame.",
        f"{study.title}: paired differences to none. Mean gain in Dice points: {'; '.join(gains)}.",
        figure,
    )


def theta(found: Findings) -> Drawing | None:
    """Dice against θ, where arms differ in nothing else."""
    study = found.study
    curves: dict[int, dict[str, list[Cell]]] = {}
    for cell in found.cells:
        only = all(departure.startswith("theta=") for departure in cell.arm.departures)
        if only and cell.arm.fusion != "none" and isinstance(_theta(cell), int | float):
            curves.setdefault(cell.n, {}).setdefault(cell.arm.fusion, []).append(cell)
    curves = {n: lines for n, lines in curves.items() if max(map(len, lines.values())) > 1}
    if not curves:
        return None
    figure, axes = panels(study.title, 1, len(curves), width=4.2, height=3.0, sharey="row")
    for axis, (n, lines) in zip(axes[0], curves.items(), strict=True):
        baseline = found.cell(n, study.reference_arm("none"))
        if baseline is not None:
            mean, low, high = _point(baseline, "dice")
            axis.axhline(mean, color=style("none")["color"], ls="--", label="none")
            axis.axhspan(low, high, color=style("none")["color"], alpha=0.12, lw=0)
        for fusion, cells in lines.items():
            cells.sort(key=_theta)
            _line(axis, [_theta(cell) for cell in cells], cells, "dice", fusion)
        axis.set_xlabel("θ")
        axis.set_title(f"n = {n}")
    axes[0][0].set_ylabel("Dice [points]")
    axes[0][0].legend()
    means = [
        f"n = {n}, {fusion}, θ = {_theta(cell):g}: {_point(cell, 'dice')[0]:.1f}"
        for n, lines in curves.items() for fusion, cells in lines.items() for cell in cells
    ]  # fmt: skip
    return Drawing(
        f"{study.name}-theta",
        "Dice against the width θ of the low band, with 95 % intervals of the mean over test "
        "subjects.",
        f"{study.title}: mean Dice in points against θ. {'; '.join(means)}.",
        figure,
    )


def controls(found: Findings) -> Drawing | None:
    """All arms at every n that has more than none, early and late."""
    study = found.study
    more = {c.n for c in found.cells if c.arm.departures or c.arm.fusion not in FUSIONS}
    by_n = {n: [cell for cell in found.cells if cell.n == n] for n in sorted(more)}
    if not by_n:
        return None
    most = max(map(len, by_n.values()))
    figure, axes = panels(study.title, len(by_n), 2, width=4.2, height=0.6 + 0.27 * most)
    fusions = [arm.fusion for arm in study.arms]
    gains = []
    for (left, right), (n, cells) in zip(axes, by_n.items(), strict=True):
        right.axvline(0, color="black", lw=0.8)
        for y, cell in enumerate(cells):
            marker = style(cell.arm.fusion, fusions)
            contrast = found.gain(n, cell.arm, "dice")
            for axis, (mean, low, high) in (
                (left, _point(cell, "dice")),
                (right, _gain(contrast) if contrast else _NOTHING),
            ):
                axis.errorbar(mean, y, xerr=_bars(mean, low, high), **marker)
            if contrast:
                seeds = _with_seeds(contrast)
                right.add_artist(Line2D(seeds, [y] * 2, color=marker["color"], lw=0.7))
                gains.append(f"n = {n}, {cell.arm.name}: {_gain(contrast)[0]:+.1f}")
        left.set_yticks(range(len(cells)), labels=[cell.arm.name for cell in cells])
        right.set_yticks(range(len(cells)), labels=[])
        left.set_title(f"n = {n}: Dice [points]")
        right.set_title("difference to its baseline [points]")
        for axis in (left, right):
            axis.set_ylim(most - 0.4, -0.6)  # the first on top
    return Drawing(
        f"{study.name}-controls",
        "All arms at the same n: mean Dice with its 95 % interval, and the paired difference to "
        "the arm without a split that is otherwise set alike, with its BCa interval; thin: for "
        "other seeds as well, cut at the frame.",
        f"{study.title}: Dice of all arms. Differences in points: {'; '.join(gains)}.",
        figure,
    )


def _line(axis: Axes, x: Sequence[float], cells: Sequence[Cell], metric: str, fusion: str) -> None:
    if cells:
        points = np.array([_point(cell, metric) for cell in cells]).T
        axis.errorbar(x, points[0], _bars(*points), label=fusion, **style(fusion))


def _point(cell: Cell, metric: str) -> tuple[float, float, float]:
    """Mean and 95 % interval over subjects, as shown; NaN where scores are infinite."""
    scores, factor = cell.scores[metric], SHOWN[metric].factor
    if scores is None:
        return _NOTHING
    low, high = scores.interval()
    return factor * scores.mean, factor * low, factor * high


def _gain(contrast: Contrast) -> tuple[float, float, float]:
    """Mean difference and its interval, as shown."""
    factor, (low, high) = SHOWN[contrast.metric].factor, contrast.interval
    return factor * contrast.comparison.mean, factor * low, factor * high


def _with_seeds(contrast: Contrast) -> tuple[float, float]:
    """The interval for other subjects and other seeds, as shown; NaN with one seed.

    With few seeds it is wide: as an artist, which axes do not make room for, it may leave them.
    """
    low, high = contrast.joint_interval
    return SHOWN[contrast.metric].factor * low, SHOWN[contrast.metric].factor * high


def _bars(mean: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Matplotlib's lengths below and above, at least a column of two."""
    return np.array([np.subtract(mean, low), np.subtract(high, mean)]).reshape(2, -1).clip(0)


def _theta(cell: Cell) -> float:
    return cell.arm.settings["theta"]
