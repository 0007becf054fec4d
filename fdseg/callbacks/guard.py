"""What ends a run before its time: a signal, a loss that diverges, a folder that is gone."""

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from fdseg.errors import FdsegError, Stopped
from fdseg.runs import LOCK


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C through, which Lightning turns into the end of the process with status 1."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, before)  # Lightning ignores the next ones
        raise KeyboardInterrupt from None


class StopOnSignal(L.Callback):
    """Checkpoints at once and ends the run when the system, or Ctrl-C, asks for it.

    Slurm sends SIGTERM before it pre-empts or kills, and the signal that a job asked for before
    its time limit. The step at work is finished first; a validation too. Ctrl-C once more ends the
    process at once. A signal that is ignored, as Ctrl-C in a shell's background, stays so.

    Args:
        path: of the checkpoint.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._received = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, in the place of whoever did."""
        if threading.current_thread() is threading.main_thread():
            heard = [n for n in self.SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
            self._before = {n: signal.signal(n, self._remember) for n in heard}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stop between two steps of an epoch."""
        if index + 1 < trainer.num_training_batches:
            self._stop_if_asked(trainer, f"in epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after the validation that may follow an epoch."""
        self._stop_if_asked(trainer, f"after epoch {trainer.current_epoch + 1}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back, after a last look."""
        self._give_back()
        self._stop_if_asked(trainer, "after the last epoch")

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _remember(self, number: int, frame: Any) -> None:
        self._received = self._received or number
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            with suppress(OSError):  # print could be at work itself
                os.write(2, b"\nCtrl-C: stopping with a checkpoint; once more ends it at once.\n")

    def _give_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _stop_if_asked(self, trainer: L.Trainer, where: str) -> None:
        asked = trainer.strategy.reduce_boolean_decision(bool(self._received), all=False)
        if asked:
            trainer.save_checkpoint(self.path)
            raise Stopped(self._received or signal.SIGTERM, f"{where}, step {trainer.global_step}")


class RefuseDivergence(L.Callback):
    """Ends a run whose loss is no number any more, or has grown far beyond its beginning.

    Args:
        factor: of the first epoch's loss, from which on a loss counts as diverging.
    """

    def __init__(self, factor: float = 10.0) -> None:
        self.factor = factor
        self.first: float | None = None
        self._last: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the step's loss."""
        self._last = outputs["loss"].detach()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last loss: a network that a NaN went through has nothing to validate."""
        if self._last is not None and not self._last.isfinite():
            self._check(trainer, float(self._last))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the epoch's mean loss, before it is checkpointed."""
        # Of a resumed epoch, the mean of what is left.
        self._check(trainer, float(trainer.callback_metrics["train/loss"]))

    def _check(self, trainer: L.Trainer, loss: float) -> None:
        if self.first is None:
            self.first = loss
        if math.isfinite(loss) and abs(loss) <= self.factor * max(abs(self.first), 1e-3):
            return
        raise FdsegError(
            f"the training loss is {loss:g} in epoch {trainer.current_epoch + 1} (it began at "
            f"{self.first:g}): the training diverges. Lower optimizer.lr, or rule out the "
            "precision with trainer.precision=32-true."
        )

    def state_dict(self) -> dict[str, Any]:
        """The loss that the others are measured against."""
        return {"first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the same measure."""
        self.first = state_dict["first"]


class RequireFolder(L.Callback):
    """Ends a run whose folder was removed, instead of writing half a run anew.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look for the file that this process holds."""
        if not (self.folder / LOCK).is_file():
            raise FdsegError(
                f"{self.folder}: the run's folder was removed while it trained. The same command "
                "starts it anew."
            )
