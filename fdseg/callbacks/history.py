"""The run's history as a plain table, one row per epoch."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from fdseg.runs import write_csv


class History(L.Callback):
    """Writes ``history.csv``: loss, validation Dice, learning rate and seconds of every epoch.

    What a split learns has a column too, as it stands after the epoch's last step.
    The rows travel in the checkpoint, so a resumed run continues the table where it resumed.

    Args:
        path: of the table; written whole after every epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self._losses: list[Tensor] = []
        self._start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the step's loss; Lightning forgets the epoch's mean so far when a run resumes."""
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row; validation, where this epoch had one, has run by now."""
        metrics = trainer.callback_metrics
        start, self._start = self._start, time.perf_counter()
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        dice = metrics.get("validation/dice") if validated else None
        loss = torch.stack([value.cpu() for value in self._losses]).double().mean().float()
        loss = trainer.strategy.reduce(loss.to(pl_module.device), reduce_op="mean")
        self._losses = []
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": float(loss),
                "validation_dice": None if dice is None else float(dice),
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "seconds": round(self._start - start, 4),
                **_learned(metrics),
            }
        )
        if trainer.is_global_zero:
            write_csv(self.path, list(self.rows[0]), self.rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and the losses of an epoch that has begun."""
        return {"rows": self.rows, "losses": [float(loss) for loss in self._losses]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a table."""
        self.rows = list(state_dict["rows"])
        self._losses = list(torch.tensor(state_dict["losses"]))


def _learned(metrics: Mapping[str, Any]) -> dict[str, float]:
    prefix = "learned/"
    return {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}
