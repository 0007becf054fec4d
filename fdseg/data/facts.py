"""What a prepared case is like: its structures' volumes, its intensities, what the grid lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fdseg.data.cache import PreparedCase, number
from fdseg.data.nifti import read_label
from fdseg.progress import progress

BINS = 64  # of the histogram of intensities


@dataclass(frozen=True)
class Facts:
    """Of one prepared case.

    Attributes:
        prepared: the case.
        volumes_ml: of each structure, in the native geometry.
        lost: the share of labelled voxels that lie outside of the network's grid.
        histogram: of the image on the grid from 0 to 1, adds up to 1; without the lowest value,
            which is that of the padding and, mostly, of the background.
    """

    prepared: PreparedCase
    volumes_ml: Mapping[str, float]
    lost: float
    histogram: np.ndarray

    @property
    def name(self) -> str:
        """Of the case."""
        return self.prepared.case.name


def find_facts(cases: Sequence[PreparedCase], structures: Mapping[str, int]) -> list[Facts]:
    """The facts of all cases, under a progress bar."""
    return [_facts(case, structures) for case in progress(cases, "Measuring cases", "case")]


def _facts(prepared: PreparedCase, structures: Mapping[str, int]) -> Facts:
    geometry = prepared.geometry
    native = number(read_label(prepared.case.label).data, structures)
    voxels = np.bincount(native.ravel(), minlength=len(structures) + 1)[1:]
    kept = np.count_nonzero(prepared.label())
    cropped = geometry.scale == (1, 1, 1)  # resizing changes how many voxels there are
    image = prepared.image()
    counts, _ = np.histogram(image[image > image.min()], BINS, (0, 1))
    return Facts(
        prepared=prepared,
        volumes_ml=dict(zip(structures, voxels * np.prod(geometry.spacing) / 1000, strict=True)),
        lost=1 - kept / voxels.sum() if cropped else 0.0,
        histogram=counts / counts.sum(),
    )
