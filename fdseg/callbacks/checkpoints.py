"""Checkpoints that are on the disk whole or not at all, and read only where they belong."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fdseg.errors import FdsegError, first_line
from fdseg.runs import whole
from fdseg.safety import require_intact

_WRITER, _RUN = "fdseg_version", "fdseg_run"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and renames it.

    Lightning's own goes by way of the system's temporary folder, from which it is *copied* where
    that lies on another disk: a run killed meanwhile would be left with half a checkpoint.

    Args:
        run: the hash in the name of the run's folder, which every checkpoint of the run holds.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Save a checkpoint of tensors and plain values, with the version and the run of it."""
        with whole(Path(path)) as file:
            torch.save({**checkpoint, _WRITER: version("fdseg"), _RUN: self.run}, file)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint to go on with, or to test.

        Raises:
            FdsegError: the file is no checkpoint or damaged, of another version (a run that changed
                its code on the way could not be repeated), or of another run.
        """
        anew = f"Remove {Path(path).parents[1]} to train the run anew"
        try:
            require_intact(Path(path))
            checkpoint = super().load_checkpoint(path, *args, **kwargs)
            writer = checkpoint.get(_WRITER, "an older version")
        except Exception as error:  # what a damaged file makes unpickling raise has no end
            raise FdsegError(
                f"{path}: cannot be read as a checkpoint ({first_line(error)}). {anew}."
            ) from None
        if writer != version("fdseg"):
            raise FdsegError(
                f"{path}: was written by fdseg {writer}, and this is {version('fdseg')}. Go on "
                f"with that one. {anew}."
            )
        if checkpoint.get(_RUN) != self.run:
            raise FdsegError(
                f"{path}: is a checkpoint of run {checkpoint.get(_RUN)}, and this is run "
                f"{self.run}. Put this run's own file back. {anew}."
            )
        return checkpoint


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint for a run whose folder may be moved before it goes on.

    Lightning's own forgets the best score where the folder has another path, and does not look
    whether the best checkpoint is there: a worse epoch would then take its place.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learn how the trainer reads checkpoints."""
        super().setup(trainer, pl_module, stage)
        self._checkpoints = trainer.strategy.checkpoint_io

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the scores of a checkpoint, and with its files where they are now.

        Raises:
            FdsegError: the best checkpoint is missing, damaged, or not the one of these scores.
        """
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        scores = {self._here(path): s for path, s in state_dict["best_k_models"].items()}
        moved = {key: self._here(state_dict[key]) for key in paths}
        super().load_state_dict(
            {**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath}
        )
        if self.monitor is not None and self.best_model_path:
            self._require_best(Path(self.best_model_path), self.best_model_score)

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else path

    def _require_best(self, path: Path, best: Any) -> None:
        """Refuse a file with a worse score. A better one is of an epoch that will come again."""
        content = self._checkpoints.load_checkpoint(path, map_location="cpu", weights_only=True)
        score = content["callbacks"][self.state_key]["best_model_score"]
        if score < best if self.mode == "max" else score > best:
            raise FdsegError(
                f"{path}: has a score of {float(score):.6g}, and the best of this run so far is "
                f"{float(best):.6g}. Put this run's own file back, or remove {path.parents[1]} to "
                "train the run anew."
            )
