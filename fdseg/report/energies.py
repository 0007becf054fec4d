"""How the energy of a task's images, labels and label boundaries is spread over frequencies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from fdseg.data.cache import PreparedCase
from fdseg.frequency.spectrum import edges, radial_power, share_above
from fdseg.progress import progress
from fdseg.report.drawing import Drawing, look, panels
from fdseg.terminal import counted

#: What is measured, in the order of the tables, and how it is drawn.
KINDS = {"image": "#4d4d4d", "label": "#0072b2", "boundary": "#d55e00"}


@dataclass(frozen=True)
class CaseEnergies:
    """Of one prepared case, by kind: image, label and boundary.

    The structures of a label count together, each as a mask of its own. A boundary has the voxels
    of a structure with a face to what is not of it.

    Attributes:
        case: its name.
        power: share of all energy that a frequency of a band has, ``[bands]``.
        above: share of all energy that lies outside of the box of width θ.
    """

    case: str
    power: Mapping[str, np.ndarray]
    above: Mapping[str, float]


def measure(cases: Sequence[PreparedCase], structures: int, theta: float) -> list[CaseEnergies]:
    """Measure all cases, under a progress bar.

    Args:
        cases: all on the same grid.
        structures: their number; labels number them from 1.
        theta: width of the low band.
    """
    return [_measure(case, structures, theta) for case in progress(cases, "Measuring", "case")]


def _measure(prepared: PreparedCase, structures: int, theta: float) -> CaseEnergies:
    label = prepared.label()
    masks = np.stack([label == number for number in range(1, structures + 1)])
    boundaries = np.stack([mask & ~ndimage.binary_erosion(mask) for mask in masks])
    volumes = {
        "image": torch.from_numpy(np.array(prepared.image())),
        "label": torch.from_numpy(masks),
        "boundary": torch.from_numpy(boundaries),
    }
    bands = band_count(label.shape)
    return CaseEnergies(
        prepared.case.name,
        {
            k: (radial_power(x, bands) / x.float().square().sum()).numpy()
            for k, x in volumes.items()
        },
        {kind: share_above(x, theta) for kind, x in volumes.items()},
    )


def band_count(size: Sequence[int]) -> int:
    """As many bands as there are whole cycles along the shorter axis of the plane.

    An axis of one voxel has no cycle, and does not count.
    """
    return min((n for n in size[:2] if n > 1), default=2) // 2


def spectra(name: str, title: str, measured: Sequence[CaseEnergies], theta: float) -> Drawing:
    """Radial power spectra of a task, with the line of θ.

    Args:
        name: of the files.
        title: above the figure.
        measured: of its cases.
        theta: width of the low band.
    """
    bands = edges(len(measured[0].power["image"]))
    bands = bands[:-1] or bands  # the last one has the corners
    centres = [(lower + upper) / 2 for lower, upper in bands]
    means = mean_shares(measured)
    with look():
        figure, ((axis,),) = panels(title, 1, 1, width=4.6, height=3.2)
        for kind, colour in KINDS.items():
            power = np.array([one.power[kind] for one in measured])
            low, middle, high = np.percentile(power[:, : len(bands)], (5, 50, 95), axis=0)
            label = f"{kind}: {100 * means[kind]:.1f} % above θ"
            marker = "" if len(bands) > 1 else "o"
            axis.plot(centres, middle, marker=marker, color=colour, label=label)
            axis.fill_between(centres, low, high, color=colour, alpha=0.18, lw=0)
        axis.axvline(theta, color="black", lw=1, ls="--")
        axis.annotate(
            f"θ = {theta:g}", (theta, 1), (3, -3), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top",
        )  # fmt: skip
        axis.set_yscale("log")
        axis.set_xlim(0, 1)
        axis.set_xlabel("frequency in the plane ÷ Nyquist")
        axis.set_ylabel("share of the energy, per frequency")
        axis.legend()
    shares = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in means.items())
    return Drawing(
        name,
        f"Radial power spectra of {counted(len(measured), 'case')}: median, and the 5th to 95th "
        "percentile. Energy above θ lies outside of the box of the split.",
        f"{title}: energy above θ = {theta:g}: {shares}.",
        figure,
    )


def mean_shares(measured: Sequence[CaseEnergies]) -> dict[str, float]:
    """Of each kind the mean share above θ, over cases in which there is anything."""
    return {kind: float(np.nanmean([one.above[kind] for one in measured])) for kind in KINDS}
