"""How wrong predicted masks are in each frequency band, while the network learns."""

import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from fdseg.frequency.spectrum import band_energy, difference_energy, edges
from fdseg.runs import write_csv


class Spectra(L.Callback):
    """Writes ``spectra.csv``: the error of predicted masks per frequency band at every validation.

    The error is that of :func:`fdseg.frequency.spectrum.band_error`, over all structures of the
    first validation cases. It is computed from the masks that validation makes anyway. The rows
    travel in the checkpoint, so a resumed run continues the table where it resumed.

    Args:
        path: of the table; written whole after every epoch that validates.
        cases: number of validation cases, always the same ones.
        bands: of equal width up to the Nyquist frequency.
    """

    def __init__(self, path: str | Path, cases: int = 4, bands: int = 10) -> None:
        self.path = Path(path)
        self.cases, self.bands = cases, bands
        self.rows: list[dict[str, Any]] = []
        self._energies = torch.empty(0)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Of every case and band there will be two energies: of the difference and the target."""
        self._energies = torch.zeros(self.cases, 2, self.bands, dtype=torch.float64)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: dict[str, Tensor],  # type: ignore[override]
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the cases of a batch that are among the chosen ones."""
        masks = zip(batch["case"].tolist(), outputs["prediction"], outputs["target"], strict=True)
        for case, prediction, target in masks:
            if case < self.cases:
                self._energies[case, 0] = difference_energy(prediction, target, self.bands)
                self._energies[case, 1] = band_energy(target, self.bands)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row for each band, before the best checkpoint is saved."""
        energies = self._energies
        if trainer.world_size > 1:  # each process has measured the cases of its own
            energies = energies.to(pl_module.device)
            energies = trainer.strategy.reduce(energies, reduce_op="sum").cpu()
        if trainer.sanity_checking:
            return
        wrong, right = energies.sum(dim=0)
        for band, (lower, upper) in enumerate(edges(self.bands)):
            error = float(wrong[band] / right[band])
            self.rows.append(
                {
                    "step": trainer.global_step,
                    "band": band,
                    "lower": lower,
                    "upper": upper,
                    "error": error if math.isfinite(error) else None,
                }
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the table, where this epoch has validated."""
        if trainer.is_global_zero and self.rows and self.rows[-1]["step"] == trainer.global_step:
            write_csv(self.path, list(self.rows[0]), self.rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a table."""
        self.rows = list(state_dict["rows"])
