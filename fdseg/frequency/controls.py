"""Splits that take something away, to tell what a frequency split is good for."""

from typing import Literal

import torch
from torch import Tensor

from fdseg.frequency.split import Split
from fdseg.values import require_value


class WholeSplit(Split):
    """No split: both bands are the whole volume, and features are added.

    Early fusion with it has a second stem and nothing else of frequency-disentangled learning.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x[b, c, X, Y, Z]``, twice."""
        return x, x

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """The sum of ``high`` and ``low[b, c, X, Y, Z]``."""
        return high + low


class OneBandSplit(Split):
    """Another split of which one band is kept and the other is zero.

    Args:
        split: whose bands and fusion.
        band: the one that is kept.

    Raises:
        FdsegError: there is no such band.
    """

    def __init__(self, split: Split, band: Literal["low", "high"]) -> None:
        super().__init__()
        require_value("split.band", band)
        self.split, self.band = split, band

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high band of ``x[b, c, X, Y, Z]`` as of the split, one of them zero."""
        low, high = self.split(x)
        if self.band == "low":
            return low, torch.zeros_like(high)
        return torch.zeros_like(low), high

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """Fuse features as the split does."""
        return self.split.fuse(high, low)

    def learned(self) -> dict[str, Tensor]:
        """What the split learns."""
        return self.split.learned()

    def extra_repr(self) -> str:
        """The band."""
        return f"band={self.band}"
