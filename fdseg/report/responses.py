"""Dice of trained networks on filtered volumes, against the cutoff."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fdseg.report.drawing import Drawing, look, panels, style

_PANELS = {"low": "frequencies up to the cutoff only", "high": "frequencies above the cutoff only"}


def mean_dice(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, float | None], np.ndarray]:
    """Dice of each case, the mean of its structures, by filter and cutoff."""
    found: dict[tuple[str, float | None], dict[str, list[float]]] = {}
    for row in rows:
        cases = found.setdefault((row["filter"], row["cutoff"]), {})
        cases.setdefault(row["case"], []).append(row["dice"])
    return {
        key: np.array([np.mean(values) for values in cases.values()])
        for key, cases in found.items()
    }


def response_curves(
    name: str, title: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], theta: object = None
) -> Drawing:
    """Mean Dice against the cutoff, a line for each run.

    Args:
        name: of the files.
        title: above the figure.
        runs: rows of :func:`fdseg.responses.responses`, by what a run is called; one that is called
            as a fusion has its colour.
        theta: width of the low band, drawn as a line where it is one number.
    """
    ends = []
    with look():
        figure, (axes,) = panels(title, 1, 2, width=4.0, height=3.0, sharey="row")
        for run, rows in runs.items():
            cases = mean_dice(rows)
            looks = style(run, [*runs])
            whole = 100 * float(cases["none", None].mean())
            ends.append(f"{run}: {whole:.1f}")
            for axis, kind in zip(axes, _PANELS, strict=True):
                cutoffs = sorted(c for k, c in cases if k == kind and c is not None)
                table = 100 * np.array([cases[kind, cutoff] for cutoff in cutoffs])
                sem = table.std(axis=1, ddof=1) / np.sqrt(table.shape[1]) if len(table.T) > 1 else 0
                axis.errorbar(cutoffs, table.mean(axis=1), sem, label=run, **looks)
                axis.axhline(whole, color=looks["color"], lw=1, ls=":")
        ticks = sorted({row["cutoff"] for rows in runs.values() for row in rows} - {None})
        for axis, label in zip(axes, _PANELS.values(), strict=True):
            if isinstance(theta, int | float):
                axis.axvline(theta, color="black", lw=1, ls="--")
                axis.annotate(
                    "θ", (theta, 1), (2, -1), xycoords=("data", "axes fraction"),
                    textcoords="offset points", va="top",
                )  # fmt: skip
            axis.set_xscale("log")
            axis.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=7)
            axis.minorticks_off()
            axis.set_title(label)
            axis.set_xlabel("cutoff ÷ Nyquist")
        axes[0].set_ylabel("Dice [points]")
        axes[0].set_ylim(0, 100)
        axes[0 if len(runs) == 1 else 1].legend(title="dotted: whole volumes")
    return Drawing(
        name,
        "Dice on test volumes that were filtered in the plane, mean ± SEM over test subjects.",
        f"{title}: Dice against the cutoff. On whole volumes: {'; '.join(ends)}.",
        figure,
    )
