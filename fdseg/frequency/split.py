"""What every way of telling frequencies apart has to do."""

from abc import abstractmethod

from torch import Tensor, nn


class Split(nn.Module):
    """Splits volumes into a low and a high band, and fuses the features made of them."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high band of ``x[b, c, X, Y, Z]``; high on the full grid, low on its own."""

    @abstractmethod
    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """Features ``[b, c, X, Y, Z]`` of ``high``, on the full grid, and ``low``, on its own."""

    def learned(self) -> dict[str, Tensor]:
        """What training makes of the split itself, by name; most splits learn nothing."""
        return {}
