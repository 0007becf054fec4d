"""No step of a run is computed in a precision whose results are wrong here."""

from typing import Any

import lightning as L

from fdseg.errors import WrongPrecisionError
from fdseg.precision_check import find_wrong_results

_EXACT = ("32-true", "64-true")


class CheckPrecision(L.Callback):
    """Compares a reduced precision with float32 on the first batch that this process meets.

    Network output and gradient before the first training step; the output before the first test
    case, where nothing was left to train. See :mod:`fdseg.precision_check`.
    """

    def __init__(self) -> None:
        self._checked = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Compare output and gradient."""
        self._check(trainer, pl_module, batch, with_gradient=True)

    def on_test_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compare the output."""
        self._check(trainer, pl_module, batch, with_gradient=False)

    def _check(self, trainer: L.Trainer, module: Any, batch: Any, with_gradient: bool) -> None:
        if self._checked or trainer.precision in _EXACT:
            return
        self._checked = True
        wrong = find_wrong_results(
            module.network,
            batch["image"],
            trainer.precision_plugin.forward_context,
            (lambda logits: module.loss_of(logits, batch)) if with_gradient else None,
        )
        if trainer.strategy.reduce_boolean_decision(wrong is not None, all=False):
            raise WrongPrecisionError(
                f"trainer.precision={trainer.precision}: computes wrong results for this network "
                f"on this machine ({wrong or 'found by another process of this run'}). Use "
                "trainer.precision=32-true."
            )
