"""How all figures of a report look, and how they are written."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fdseg.runs import written_whole

# Okabe and Ito (2008), told apart by all kinds of colour vision; markers tell the same without.
_STYLES = {
    "none": ("#4d4d4d", "o"),
    "early": ("#0072b2", "s"),
    "late": ("#d55e00", "^"),
}
_MORE = (("#009e73", "D"), ("#cc79a7", "v"), ("#e69f00", "P"), ("#56b4e9", "X"))

_LOOK: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "errorbar.capsize": 2.5,
    "svg.hashsalt": "fdseg",  # the same figure, the same file
    "axes.unicode_minus": True,
}


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        name: of its files.
        title: for people.
        alt: what it shows, for those who cannot see it.
        figure: matplotlib's.
    """

    name: str
    title: str
    alt: str
    figure: Figure

    def write(self, folder: Path) -> None:
        """Write ``<name>.svg`` and ``<name>.png``; the same numbers give the same bytes."""
        svg, png = (folder / f"{self.name}.{ending}" for ending in ("svg", "png"))
        with look(), written_whole(svg) as vectors, written_whole(png) as pixels:
            engine = self.figure.get_layout_engine()
            if engine is not None:  # lay out once; with an engine, each format would draw it twice
                engine.execute(self.figure)
                self.figure.set_layout_engine(None)
            self.figure.savefig(vectors, format="svg", metadata={"Date": None})
            self.figure.savefig(pixels, format="png", dpi=150, metadata={"Software": None})

    def picture(self) -> Image.Image:
        """The figure in pixels."""
        canvas = FigureCanvasAgg(self.figure)
        with look():
            self.figure.set_dpi(150)
            canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def look() -> AbstractContextManager[None]:
    """Matplotlib's settings for drawing a figure."""
    return mpl.rc_context(_LOOK)


def panels(
    title: str,
    rows: int,
    columns: int,
    *,
    width: float,
    height: float,
    sharey: Literal["none", "row"] = "none",
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure, its panels by row and column; to be filled within :func:`look`.

    Args:
        title: above it; a phantom's says so.
        rows, columns: of panels.
        width, height: of one panel, in inches.
        sharey: which panels share their y axis, ``none`` or ``row``.
    """
    size = (max(columns * width, 4.0), rows * height + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure, axes.tolist()


def style(fusion: str, others: Sequence[str] = ()) -> dict[str, Any]:
    """Colour and marker of a fusion; those that the paper does not have are told by their place."""
    if fusion in _STYLES:
        colour, marker = _STYLES[fusion]
    else:
        place = sorted({o for o in others if o not in _STYLES}).index(fusion) if others else 0
        colour, marker = _MORE[place % len(_MORE)]
    return {"color": colour, "marker": marker}
