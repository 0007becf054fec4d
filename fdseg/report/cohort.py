"""The picture of a cohort: its subjects with their labels, their intensities and volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from fdseg.data.cache import PreparedCase
from fdseg.data.facts import BINS, Facts
from fdseg.report.overlay import COLOURS, contours, window_of
from fdseg.runs import whole

_TILES, _COLUMNS = 30, 10  # subjects shown
_NAMED = 3  # subjects whose intensities are most unlike the others'
_PARTS = {"training": "#dddddd", "validation": "#4cc9f0", "test": "#ffb000", "none": "#777777"}


def cohort_picture(path: Path, facts: Sequence[Facts], part: Mapping[str, str], title: str) -> None:
    """Write the picture of a cohort.

    Above, subjects from the smallest to the largest labelled volume, each in the axial plane that
    shows most of its label; below, every subject's histogram and its structures' volumes.

    Args:
        path: of the PNG.
        facts: of the cases.
        part: training, validation, test or none, by the names of the cases.
        title: above the picture.
    """
    order = sorted(facts, key=lambda f: sum(f.volumes_ml.values()))
    ranks = np.linspace(0, len(order) - 1, min(_TILES, len(order))).round().astype(int)
    rows = -(-len(ranks) // _COLUMNS)
    figure = Figure(figsize=(13, 1.5 * rows + 4.6), facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, color="white", fontsize=11)
    above, below = figure.subfigures(2, 1, height_ratios=[1.5 * rows, 4], squeeze=False).flat
    for half in (above, below):
        half.set_facecolor("black")
    _montage(above, [order[rank] for rank in ranks], rows, part)
    left, right = below.subplots(1, 2)
    _intensities(left, facts)
    _volumes(right, facts, part)
    with whole(path) as file:
        figure.savefig(file, format="png", dpi=110, facecolor="black")


def _montage(figure: SubFigure, facts: Sequence[Facts], rows: int, part: Mapping[str, str]) -> None:
    axes = figure.subplots(rows, min(_COLUMNS, len(facts)), squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, fact in zip(axes, facts, strict=False):
        image, label, aspect = _axial(fact.prepared)
        axis.imshow(image, cmap="gray", origin="lower", aspect=aspect, clim=window_of(image))
        contours(axis, label, len(fact.volumes_ml))
        axis.set_title(
            f"{fact.name}\n{sum(fact.volumes_ml.values()):.3g} mL",
            color=_PARTS[part[fact.name]],
            fontsize=6,
        )


def _axial(prepared: PreparedCase) -> tuple[np.ndarray, np.ndarray, float]:
    """Image and label ``[Y, X]`` where most is labelled, and a pixel's height by its width."""
    label = prepared.label()
    z = int(np.count_nonzero(label, axis=(0, 1)).argmax())
    geometry = prepared.geometry
    canonical = np.argsort([axis for axis, _ in geometry.orientation])
    width, height, _ = np.array(geometry.spacing)[canonical] / geometry.scale
    return prepared.image()[..., z].T, label[..., z].T, height / width


def _intensities(axis: Axes, facts: Sequence[Facts]) -> None:
    _style(axis, "intensity after scaling to [0, 1]", "share of the voxels above the lowest")
    centres = (np.arange(BINS) + 0.5) / BINS
    histograms = np.array([fact.histogram for fact in facts])
    median = np.median(histograms, axis=0)
    unlike = np.argsort(-np.abs(histograms - median).sum(axis=1))[:_NAMED]
    for histogram in histograms:
        axis.plot(centres, histogram, color="white", alpha=0.2, linewidth=0.7)
    for index, colour in zip(unlike, COLOURS[1:], strict=False):
        axis.plot(centres, histograms[index], color=colour, label=facts[index].name)
    axis.plot(centres, median, color=COLOURS[0], linewidth=2, label="median")
    axis.set_yscale("log")
    axis.set_ylim(bottom=1e-4)
    axis.set_title("Intensities; named: the most unlike the median", color="white", fontsize=9)
    axis.legend(fontsize=7, labelcolor="white", facecolor="black", edgecolor="none")


def _volumes(axis: Axes, facts: Sequence[Facts], part: Mapping[str, str]) -> None:
    _style(axis, "", "volume [mL]")
    structures = list(facts[0].volumes_ml)
    beside = np.random.default_rng(0).uniform(-0.25, 0.25, len(facts))
    for place, structure in enumerate(structures):
        volumes = np.array([fact.volumes_ml[structure] for fact in facts])
        colours = [_PARTS[part[fact.name]] for fact in facts]
        axis.scatter(place + beside, volumes, s=9, c=colours)
        axis.hlines(np.median(volumes), place - 0.35, place + 0.35, color="white")
        for index in {int(volumes.argmin()), int(volumes.argmax())}:
            axis.annotate(
                facts[index].name,
                (place + beside[index], volumes[index]),
                xytext=(4, 2),
                textcoords="offset points",
                color="white",
                fontsize=6,
            )
    axis.set_xticks(range(len(structures)), structures)
    axis.set_xlim(-0.6, len(structures) - 0.4)
    axis.set_ylim(bottom=0)
    for name in (name for name in _PARTS if name in part.values()):
        axis.scatter([], [], s=9, color=_PARTS[name], label=name)
    axis.set_title("Volumes of the structures; line: median", color="white", fontsize=9)
    axis.legend(fontsize=7, labelcolor="white", facecolor="black", edgecolor="none")


def _style(axis: Axes, across: str, up: str) -> None:
    axis.set_facecolor("black")
    axis.set_xlabel(across, color="white", fontsize=8)
    axis.set_ylabel(up, color="white", fontsize=8)
    axis.tick_params(colors="white", labelsize=7)
    for spine in axis.spines.values():
        spine.set_color("gray")
