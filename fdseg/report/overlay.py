"""A subject in three planes: prediction and label on the volume, and beside it its two bands."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from fdseg.runs import written_whole

COLOURS = ("#ffb000", "#4cc9f0", "#e63bb1", "#5fd35f", "#ff6a3d", "#a78bfa")
_PLANES = ("sagittal", "coronal", "axial")
_LONGEST = 3  # sides of a panel; a volume of one slice would make a picture of any height


def overlay(
    path: Path,
    *,
    image: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    structures: Sequence[str],
    title: str,
    label: np.ndarray | None = None,
    bands: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """Write a picture of one case.

    Rows are the sagittal, coronal and axial plane through the centre of the label, or else of the
    prediction; columns the volume with contours of the label (solid) and the prediction (dashed,
    where there is a label), and its bands.

    Args:
        path: of the PNG.
        image: array ``[X, Y, Z]`` in canonical (RAS) orientation.
        prediction: map ``[X, Y, Z]``, structures numbered from 1.
        spacing_mm: of the voxels, along X, Y and Z.
        structures: their names.
        title: above the picture.
        label: like ``prediction``, where it is known.
        bands: of the image, like ``image``, by their names.
    """
    maps = (
        {"prediction": prediction} if label is None else {"label": label, "prediction": prediction}
    )
    lines = dict(zip(maps, ("-", "--"), strict=False))
    centre = _centre(next(iter(maps.values())))
    columns = {"volume": image, **bands}
    extent = np.multiply(image.shape, spacing_mm)
    ratios = [extent[up] / extent[across] for across, up in ((1, 2), (0, 2), (0, 1))]
    heights = np.clip(ratios, 1 / _LONGEST, _LONGEST)
    size = (max(3.2 * len(columns), 4.8), 3.2 * sum(heights) + 1.0)
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(columns), height_ratios=heights, squeeze=False)
    windows = {name: window_of(volume) for name, volume in columns.items()}
    for row, plane in enumerate(_PLANES):
        across, up = [a for a in range(3) if a != row]
        aspect = spacing_mm[up] / spacing_mm[across]
        for column, (name, volume) in enumerate(columns.items()):
            axis = axes[row, column]
            axis.set_axis_off()
            cut = np.take(volume, centre[row], axis=row).T
            axis.imshow(cut, cmap="gray", origin="lower", aspect=aspect, clim=windows[name])
            if column == 0:
                axis.set_title(plane, color="white", loc="left", fontsize=9)
                for of, line in lines.items():
                    cut = np.take(maps[of], centre[row], axis=row).T
                    contours(axis, cut, len(structures), line)
            elif row == 0:
                axis.set_title(name, color="white", fontsize=9)
    figure.suptitle(title, color="white", fontsize=11)
    for number, structure in enumerate(structures):
        colour = COLOURS[number % len(COLOURS)]
        for of, line in lines.items():
            axes[2, 0].plot([], [], line, color=colour, label=f"{structure}: {of}")
    figure.legend(
        loc="outside lower left",
        ncols=len(lines) * min(len(structures), 2),
        fontsize=8,
        labelcolor="white",
        facecolor="black",
        edgecolor="none",
    )
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=110, facecolor=to_rgba("black"))


def _centre(labels: np.ndarray) -> list[int]:
    """Of what is labelled; of the volume where nothing is."""
    if not labels.any():
        return [n // 2 for n in labels.shape]
    return [
        round(float(np.average(np.arange(n), weights=(labels > 0).sum(axis=others))))
        for n, others in zip(labels.shape, ((1, 2), (0, 2), (0, 1)), strict=True)
    ]


def window_of(volume: np.ndarray) -> tuple[float, float]:
    """Darkest and brightest intensity to show, a few outlying voxels aside."""
    low, high = np.percentile(volume, (0.5, 99.7))
    return float(low), float(max(high, low + 1e-6))


def contours(axis: Axes, cut: np.ndarray, structures: int, style: str = "-") -> None:
    """Draw the outlines of structures 1, 2, … in a plane ``[up, across]`` of a label map.

    A plane one voxel wide has none.
    """
    if min(cut.shape) < 2:
        return
    for number in range(1, structures + 1):
        mask = cut == number
        if mask.any() and not mask.all():
            axis.contour(
                mask,
                levels=[0.5],
                colors=[COLOURS[(number - 1) % len(COLOURS)]],
                linestyles=style,
                linewidths=1.1 if style == "-" else 1.4,
            )
