"""Training, validation and prediction of a segmentation network, as a LightningModule."""

from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from fdseg.data.datamodule import derived_seed
from fdseg.data.labels import binary
from fdseg.metrics import MeanDice


class SegmentationModule(L.LightningModule):
    """Trains a network on independent sigmoids, one channel per structure, background not counted.

    Args:
        network: maps ``[b, 1, X, Y, Z]`` to logits ``[b, structures, X, Y, Z]``.
        loss: of logits and binary targets of the same shape.
        optimizer: makes an optimiser of parameters.
        structures: number of structures.
        seed: of the run; every step draws its randomness from it and the step alone, so that a
            resumed run goes on as if it had never stopped.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        structures: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.loss, self.seed = network, loss, seed
        self.make_optimizer = optimizer
        self.dice = MeanDice(structures)
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(1, structures + 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Probabilities ``[b, structures, X, Y, Z]``, float32, of images ``[b, 1, X, Y, Z]``."""
        return self._logits(image).sigmoid()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The configured optimiser over all parameters."""
        return self.make_optimizer(self.parameters())

    def setup(self, stage: str) -> None:
        """On a CPU the channels-last layout makes oneDNN's 3-D convolutions about twice as fast."""
        if self.trainer.strategy.root_device.type == "cpu":
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Start the step's random numbers."""
        torch.manual_seed(derived_seed(self.seed, self.global_step, self.global_rank))

    def on_train_batch_end(self, *_: Any) -> None:
        """Log what the split has learned, where it learns."""
        self.log_dict({f"learned/{name}": value for name, value in self.learned().items()})

    def learned(self) -> dict[str, Tensor]:
        """What training has made of the network's split, by name: θ, where it is trained."""
        split = getattr(self.network, "split", None)
        return {} if split is None else split.learned()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = self.loss_of(self._logits(batch["image"]), batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]))
        return loss

    def loss_of(self, logits: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the loss of logits ``[b, structures, X, Y, Z]`` for the labels of a batch."""
        return self.loss(logits, self._one_hot(batch["label"]).float())

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Gather Dice on the network's grid; the masks, one-hot, are left to callbacks.

        Raises:
            FdsegError: the network's probabilities of a case are not finite.
        """
        cases = self.trainer.datamodule.validation.cases  # type: ignore[attr-defined]
        of = ", ".join(cases[index].case.name for index in batch["case"].tolist())
        prediction, target = binary(self(batch["image"]), of), self._one_hot(batch["label"])
        self.dice.update(prediction, target)
        return {"prediction": prediction, "target": target}

    def on_validation_epoch_end(self) -> None:
        """Log the mean over subjects and structures."""
        self.log("validation/dice", self.dice.compute())
        self.dice.reset()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Probabilities, to be scored in the native geometry by a callback."""
        return self(batch["image"])

    def _logits(self, image: Tensor) -> Tensor:
        return self.network(image).float()

    def _one_hot(self, label: Tensor) -> Tensor:
        """``label[b, X, Y, Z]`` to booleans ``[b, structures, X, Y, Z]``."""
        return label[:, None] == self.numbers[:, None, None, None]
