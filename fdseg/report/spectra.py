"""What runs learn of each frequency band, and when: the tables of ``fdseg.callbacks.Spectra``."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm

from fdseg.report.drawing import Drawing, look, panels
from fdseg.report.paper import FUSIONS

if TYPE_CHECKING:
    from fdseg.report.findings import Findings

_RANGE = 16  # of the colours: from 1/16 of an empty mask's error to 16 times it


@dataclass(frozen=True)
class BandErrors:
    """Errors of predicted masks by step and band, of a run or the mean of several.

    Attributes:
        steps: of training, ``[s]``.
        edges: of the bands, ``[b + 1]``, as fractions of the Nyquist frequency.
        values: ``[s, b]``; NaN where the target has no energy.
    """

    steps: np.ndarray
    edges: np.ndarray
    values: np.ndarray


def read_errors(folder: Path) -> BandErrors | None:
    """The table of a run; ``None`` where it has none, or a broken one."""
    try:
        with (folder / "spectra.csv").open(newline="") as file:
            cells = {
                (int(row["step"]), float(row["lower"]), float(row["upper"])): float(
                    row["error"] or "nan"
                )
                for row in csv.DictReader(file)
            }
        steps = sorted({cell[0] for cell in cells})
        bands = sorted({cell[1:] for cell in cells})
        values = [[cells[step, lower, upper] for lower, upper in bands] for step in steps]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    if not cells:
        return None
    edges = [bands[0][0], *(upper for _, upper in bands)]
    return BandErrors(np.array(steps), np.array(edges), np.array(values))


def mean_errors(runs: Sequence[BandErrors]) -> BandErrors:
    """Over the runs that have the bands of the first one, at the steps that all of those have."""
    alike = [run for run in runs if np.array_equal(run.edges, runs[0].edges)]
    steps = sorted(set.intersection(*({*run.steps.tolist()} for run in alike)))
    values = [run.values[np.isin(run.steps, steps)] for run in alike]
    return BandErrors(np.array(steps), runs[0].edges, np.mean(values, axis=0))


def errors(found: "Findings") -> Drawing | None:
    """Heat maps of the reference arms side by side, a row for each n; ``None`` without tables."""
    study = found.study
    arms = [arm for fusion in FUSIONS if (arm := study.reference_arm(fusion))]
    maps = {}
    for n in study.sizes:
        for arm in arms:
            tables = [t for run in arm.runs.get(n, ()) if (t := read_errors(run.folder))]
            if tables:
                maps[f"n = {n}", arm.fusion] = mean_errors(tables)
    if not maps:
        return None
    theta = next((arm.settings["theta"] for arm in arms if arm.settings["theta"]), None)
    return heat_maps(f"{study.name}-spectra", study.title, maps, theta)


def heat_maps(
    name: str, title: str, maps: Mapping[tuple[str, str], BandErrors], theta: object = None
) -> Drawing:
    """Band against training step, coloured by the error, in rows and columns of panels.

    Args:
        name: of the files.
        title: above the figure.
        maps: by the names of their row and column.
        theta: width of the low band, drawn as a line where it is one number.
    """
    rows, columns = (list(dict.fromkeys(key[i] for key in maps)) for i in (0, 1))
    with look():
        figure, axes = panels(title, len(rows), len(columns), width=2.7, height=2.4)
        for (row, column), table in maps.items():
            axis = axes[rows.index(row)][columns.index(column)]
            mesh = axis.pcolormesh(
                [0, *table.steps],  # a column ends with the step it was measured at
                table.edges,
                table.values.T.clip(1e-6),  # a logarithm is taken
                cmap="RdBu_r",  # white is an empty mask's error
                norm=LogNorm(1 / _RANGE, _RANGE),
                rasterized=True,
            )
            axis.grid(visible=False)
            axis.set_ylim(0, 1)
            axis.set_title(f"{column}, {row}" if row else column)
            axis.set_xlabel("training step")
            if isinstance(theta, int | float):
                axis.axhline(theta, color="black", lw=1, ls="--")
                axis.annotate(" θ", (table.steps[-1], theta), va="center", annotation_clip=False)
        for line in axes:
            line[0].set_ylabel("frequency ÷ Nyquist")
            for axis in line:
                axis.set_visible(axis.has_data())
        bar = figure.colorbar(mesh, ax=[axis for line in axes for axis in line], extend="both")
        bar.set_ticks([1 / _RANGE, 1 / 4, 1, 4, _RANGE], labels=["1/16", "1/4", "1", "4", "16"])
        bar.minorticks_off()
        bar.set_label("error; 1: as an empty mask")
        bar.ax.grid(visible=False)
    ends = "; ".join(
        f"{column}, {row}: {table.values[-1, 0]:.2f} and {_median(table.values[-1]):.2f}".replace(
            ", :", ":"
        )
        for (row, column), table in maps.items()
    )
    return Drawing(
        name,
        "Error of the predicted masks per frequency band against the training step: the energy of "
        "the difference to the label in a band, by the label's own there. Mean over seeds.",
        f"{title}: error per frequency band. At the end, in the lowest band and in the median "
        f"band: {ends}.",
        figure,
    )


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")
