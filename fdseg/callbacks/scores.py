"""Scoring of the test subjects in the geometry of their own volumes."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from torch import Tensor

from fdseg.data.cache import PreparedCase, verify
from fdseg.data.datamodule import SegmentationData
from fdseg.data.labels import label_map
from fdseg.data.nifti import write_label
from fdseg.metrics import Scores


class TestScores(L.Callback):
    """Brings every test prediction back to its volume, scores it there in mm, and keeps it.

    Args:
        score: of two boolean masks ``[X, Y, Z]`` and the spacing in mm.
        predictions: folder for the label maps, as NIfTI in the volume's geometry and the label
            files' own values.

    Attributes:
        rows: one per test case and structure, as in ``cases.csv``.
    """

    def __init__(self, score: Callable[..., Scores], predictions: Path) -> None:
        self.score, self.predictions = score, predictions
        self.rows: list[dict[str, Any]] = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start an empty table."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,  # type: ignore[override]
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score the cases of a batch.

        Raises:
            FdsegError: the network's probabilities of a case are not finite.
        """
        data: SegmentationData = trainer.datamodule  # type: ignore[attr-defined]
        for index, probabilities in zip(batch["case"].tolist(), outputs, strict=True):
            self._score(data, data.test.cases[index], probabilities.float().cpu().numpy())

    def _score(
        self, data: SegmentationData, prepared: PreparedCase, probabilities: np.ndarray
    ) -> None:
        image, label = verify(prepared.case, data.task.structures, data.task.ignore)
        case, values = prepared.case, data.task.structures.values()
        geometry = prepared.geometry
        labels = label_map(probabilities, data.preprocessing, geometry, [*values], case.name)
        for number, (structure, value) in enumerate(data.task.structures.items(), start=1):
            scores = self.score(labels == value, label == number, image.spacing)
            self.rows.append(
                {
                    "case": case.name,
                    "participant": case.participant,
                    "group": case.group,
                    "structure": structure,
                    **asdict(scores),
                }
            )
        write_label(self.predictions / f"{case.name}.nii.gz", labels, like=case.image)
