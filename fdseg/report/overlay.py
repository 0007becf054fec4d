"""A test subject in three planes: label and prediction on the volume, and on its two bands."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

_COLOURS = ("#ffb000", "#4cc9f0", "#e63bb1", "#5fd35f", "#ff6a3d", "#a78bfa")
_PLANES = ("sagittal", "coronal", "axial")


def overlay(
    path: Path,
    *,
    image: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    label: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    structures: Sequence[str],
    title: str,
) -> None:
    """Write a picture of one case.

    Rows are the sagittal, coronal and axial plane through the label's centre; columns the volume
    with contours of the label (solid) and the prediction (dashed), its low and its high band.

    Args:
        path: of the PNG.
        image, low, high: arrays ``[X, Y, Z]`` in canonical (RAS) orientation.
        label, prediction: maps ``[X, Y, Z]``, structures numbered from 1.
        spacing_mm: of the voxels, along X, Y and Z.
        structures: their names.
        title: above the picture.
    """
    centre = [round(float(c)) for c in np.argwhere(label > 0).mean(axis=0)]
    extent = np.multiply(image.shape, spacing_mm)
    heights = [extent[up] / extent[across] for across, up in ((1, 2), (0, 2), (0, 1))]
    size = (9.6, 3.2 * sum(heights) + 1.0)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3, height_ratios=heights)
    window = {"volume": _window(image), "low band": _window(low), "high band": _window(high)}
    for row, plane in enumerate(_PLANES):
        across, up = [a for a in range(3) if a != row]
        aspect = spacing_mm[up] / spacing_mm[across]
        for column, (name, volume) in enumerate(
            (("volume", image), ("low band", low), ("high band", high))
        ):
            axis = axes[row, column]
            axis.set_axis_off()
            cut = np.take(volume, centre[row], axis=row).T
            axis.imshow(cut, cmap="gray", origin="lower", aspect=aspect, clim=window[name])
            if column == 0:
                axis.set_title(plane, color="white", loc="left", fontsize=9)
                _contours(axis, np.take(label, centre[row], axis=row).T, len(structures), "-")
                _contours(axis, np.take(prediction, centre[row], axis=row).T, len(structures), "--")
            elif row == 0:
                axis.set_title(name, color="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11)
    for number, structure in enumerate(structures):
        colour = _COLOURS[number % len(_COLOURS)]
        axes[2, 0].plot([], [], color=colour, label=f"{structure}: label")
        axes[2, 0].plot([], [], "--", color=colour, label="prediction")
    figure.legend(
        loc="outside lower left",
        ncols=2 * min(len(structures), 2),
        fontsize=8,
        labelcolor="white",
        facecolor="black",
        edgecolor="none",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor=to_rgba("black"))


def _window(volume: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(volume, (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))


def _contours(axis: Axes, cut: np.ndarray, structures: int, style: str) -> None:
    for number in range(1, structures + 1):
        mask = cut == number
        if mask.any() and not mask.all():
            axis.contour(
                mask,
                levels=[0.5],
                colors=[_COLOURS[(number - 1) % len(_COLOURS)]],
                linestyles=style,
                linewidths=1.1 if style == "-" else 1.4,
            )
