"""How well a trained network segments test volumes of which it is shown some frequencies only."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fdseg.data.cache import PreparedCase, verify
from fdseg.data.labels import label_map
from fdseg.data.task import Task
from fdseg.frequency import BoxSplit
from fdseg.inference import Predictor
from fdseg.metrics import dice


def responses(
    predictor: Predictor, task: Task, cases: Sequence[PreparedCase], cutoffs: Sequence[float]
) -> Iterator[list[dict[str, Any]]]:
    """Dice in native geometry of whole, low-passed and high-passed volumes, case by case.

    A volume is filtered on the network's grid by the box of the split: of a cutoff c the low-passed
    one has the frequencies up to c times the Nyquist frequency along x and y, with all of z, and
    the high-passed one has the others.

    Args:
        predictor: of one trained run.
        task: whose cases they are.
        cases: prepared for that run.
        cutoffs: in (0, 1].

    Yields:
        Rows of one case: filter (none, low or high), cutoff (``None`` for none), structure, Dice.

    Raises:
        FdsegError: the network's probabilities of a case are not finite.
    """
    run = predictor.trained[0]
    splits = {cutoff: BoxSplit(cutoff, run.preprocessing.size) for cutoff in cutoffs}
    values = list(run.structures.values())
    for prepared in cases:
        _, label = verify(prepared.case, task.structures, task.ignore)
        image = np.array(prepared.image())
        rows = []
        for kind, cutoff, volume in _filtered(image, splits):
            probabilities = predictor(volume, prepared.case.name)
            labels = label_map(probabilities, run.preprocessing, prepared.geometry, values)
            for number, (structure, value) in enumerate(run.structures.items(), start=1):
                rows.append(
                    {
                        "case": prepared.case.name,
                        "participant": prepared.case.participant,
                        "filter": kind,
                        "cutoff": cutoff,
                        "structure": structure,
                        "dice": dice(labels == value, label == number),
                    }
                )
        yield rows


def _filtered(
    image: np.ndarray, splits: dict[float, BoxSplit]
) -> Iterator[tuple[str, float | None, np.ndarray]]:
    """The whole volume ``[X, Y, Z]``, and both of its parts for every cutoff."""
    yield "none", None, image
    for cutoff, split in splits.items():
        high = split(torch.from_numpy(image)[None, None])[1][0, 0].numpy()
        yield "low", cutoff, image - high
        yield "high", cutoff, high
