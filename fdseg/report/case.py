"""The picture of one test case, from the files of its run."""

from pathlib import Path

import numpy as np
import torch

from fdseg.data.cache import PreparedCase, number, verify
from fdseg.data.nifti import read_label
from fdseg.data.preprocess import Preprocessing
from fdseg.data.task import Task
from fdseg.frequency import Split
from fdseg.report.overlay import overlay


def picture(
    path: Path,
    prepared: PreparedCase,
    prediction: Path,
    *,
    preprocessing: Preprocessing,
    task: Task,
    split: Split,
    title: str,
) -> None:
    """Write the overlay of a test case in its native grid, with the bands its network was given.

    Args:
        path: of the PNG.
        prepared: the case.
        prediction: its predicted label map, NIfTI in the native geometry.
        preprocessing: by which the case was prepared.
        task: names and numbers the structures.
        split: low and high band of the prepared image.
        title: above the picture.
    """
    geometry = prepared.geometry
    image, label = verify(prepared.case, task.structures, task.ignore)
    predicted = number(read_label(prediction).data, task.structures)
    x = torch.from_numpy(np.array(prepared.image()))[None, None]
    with torch.no_grad():
        high = split.to("cpu")(x)[1]
    bands = torch.cat([x - high, high])[:, 0].numpy()
    low, high = preprocessing.restore(bands, geometry, canonical=True)
    overlay(
        path,
        image=geometry.canonical(image.data),
        bands={"low band": low, "high band": high},
        label=geometry.canonical(label),
        prediction=geometry.canonical(predicted),
        spacing_mm=geometry.canonical_spacing,
        structures=list(task.structures),
        title=title,
    )
