"""Checkpoints that are on the disk whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from fdseg.runs import whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and renames it.

    Lightning's own goes by way of the system's temporary folder, from which it is *copied* where
    that lies on another disk: a run killed meanwhile would be left with half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Save a checkpoint of tensors and plain values."""
        with whole(Path(path)) as file:
            torch.save(checkpoint, file)
