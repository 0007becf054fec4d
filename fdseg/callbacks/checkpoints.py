"""Checkpoints that are on the disk whole or not at all, and read by the code that wrote them."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fdseg.errors import FdsegError, first_line
from fdseg.runs import whole

_WRITER = "fdseg_version"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and renames it.

    Lightning's own goes by way of the system's temporary folder, from which it is *copied* where
    that lies on another disk: a run killed meanwhile would be left with half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Save a checkpoint of tensors and plain values, and the version that writes it."""
        with whole(Path(path)) as file:
            torch.save({**checkpoint, _WRITER: version("fdseg")}, file)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint to go on with, or to test.

        Raises:
            FdsegError: the file is no checkpoint, or one of another version: a run that changed
                its code on the way could not be repeated.
        """
        anew = f"Remove {Path(path).parents[1]} to train the run anew"
        try:
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
        return checkpoint
