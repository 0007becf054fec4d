"""One progress bar for the whole run, with the time left."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from fdseg.progress import progress
from fdseg.runs import duration
from fdseg.terminal import counted


class RunProgress(ProgressBar):
    """A bar over all steps of all epochs, and an estimate of the run's time after the first epoch.

    Lightning's own bars start anew each epoch, which tells nothing where an epoch is four steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm | None = None
        self._start = 0.0

    def disable(self) -> None:
        """Called on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """The opposite of :meth:`disable`."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        tqdm.write(" ".join(map(str, args)), **kwargs)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar where the run stands."""
        self._bar = self._make("Training", int(trainer.estimated_stepping_batches), "step")
        self._bar.update(trainer.global_step)
        self._bar.start_t = self._bar.last_print_t = time.time()
        self._bar.initial = trainer.global_step
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """One step on."""
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show loss and validation Dice; after the first epoch, say how long the run will take."""
        if self._bar is None:
            return
        shown = {"loss": "train/loss", "dice": "validation/dice"}
        values = {
            k: trainer.callback_metrics[m]
            for k, m in shown.items()
            if m in trainer.callback_metrics
        }
        self._bar.set_postfix({k: f"{v:.3f}" for k, v in values.items()}, refresh=False)
        if self._bar.n - self._bar.initial <= trainer.num_training_batches and self._enabled:
            self.print(_estimate(trainer, time.perf_counter() - self._start))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        """Close the bar."""
        self._close()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open a bar over the test cases."""
        self._bar = self._make(
            "Scoring the test subjects", int(sum(map(float, trainer.num_test_batches))), "case"
        )

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """One case on."""
        if self._bar is not None:
            self._bar.update()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def _make(self, title: str, total: int, unit: str) -> tqdm:
        return progress(None, title, unit, total=total, leave=True, disable=not self._enabled)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _estimate(trainer: L.Trainer, epoch_seconds: float) -> str:
    """The whole run from its first epoch; a case takes a third of a step to validate."""
    step = epoch_seconds / max(trainer.num_training_batches, 1)
    left = int(trainer.estimated_stepping_batches) - trainer.global_step
    epochs = (trainer.max_epochs or 0) - trainer.current_epoch
    validations = epochs // (trainer.check_val_every_n_epoch or 1)
    cases = sum(n for n in trainer.num_val_batches if n != float("inf"))
    seconds = left * step + validations * cases * step / 3
    return (
        f"First epoch: {epoch_seconds:.1f} s, {step:.2f} s a step. The whole run takes about "
        f"{duration(seconds)}: "
        f"{counted(trainer.max_epochs or 0, 'epoch')} of "
        f"{counted(int(trainer.num_training_batches), 'step')}, "
        f"{counted(validations, 'validation')}."
    )
