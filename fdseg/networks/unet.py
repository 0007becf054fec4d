"""The paper's segmentation network: a small residual 3-D U-Net of three levels."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdseg.networks.conv import Conv3x3x3, require_counts

_MOST_LEVELS = 16  # by then a grid of 32768 voxels is one


class NormAct(nn.Module):
    """Instance normalisation and leaky ReLU, channels kept."""

    def forward(self, x: Tensor) -> Tensor:
        """``x[b, c, X, Y, Z]`` to the same shape."""
        return F.leaky_relu_(F.instance_norm(x))


class ConvBlock(nn.Sequential):
    """One 3×3×3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(Conv3x3x3(inputs, outputs), NormAct())


class ResidualLevel(nn.Module):
    """Activation, convolution, dropout, activation, the *same* convolution, plus the input."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = Conv3x3x3(width, width)
        self.act = NormAct()
        self.dropout = nn.Dropout3d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``x[b, width, X, Y, Z]`` to the same shape."""
        y = self.dropout(self.conv(self.act(x)))
        return self.act(x + self.conv(self.act(y)))


class UpLevel(nn.Module):
    """Joins a level with its skip, then doubles the grid and narrows to the next finer level."""

    def __init__(self, width: int, finer: int) -> None:
        super().__init__()
        self.join = ConvBlock(2 * width, 2 * width)
        self.squeeze = nn.Conv3d(2 * width, width, kernel_size=1, bias=False)
        self.act = NormAct()
        self.up = ConvBlock(width, finer)

    def forward(self, x: Tensor, skip: Tensor, size: torch.Size) -> Tensor:
        """``x`` and ``skip[b, width, …]`` to ``[b, finer, *size]``."""
        x = self.act(self.squeeze(self.join(torch.cat([x, skip], dim=1))))
        return self.up(F.interpolate(x, size=size, mode="nearest"))


class ResidualUNet(nn.Module):
    """U-Net of residual levels with shared weights, as in the paper's released network.

    Widths double per level (8, 16, 32 by default: 0.21 M parameters); strided convolutions go
    down, nearest-neighbour upsampling and a convolution go up; skips are joined by a 3×3×3 block
    and squeezed by a 1×1×1 convolution, the finest by the latter alone, because the head's block
    follows. It takes a grid of any size.

    Args:
        features: channels in and out, the width of the finest level.
        levels: number of levels, the finest included.
        dropout: probability of dropping a channel inside each residual level.

    Raises:
        FdsegError: a number is not a whole one, below 1, or too large.
    """

    def __init__(self, features: int = 8, levels: int = 3, dropout: float = 0.6) -> None:
        super().__init__()
        require_counts(features=features)
        require_counts(_MOST_LEVELS, levels=levels)
        widths = [features * 2**level for level in range(levels)]
        self.levels = nn.ModuleList(ResidualLevel(width, dropout) for width in widths)
        self.downs = nn.ModuleList(
            Conv3x3x3(fine, coarse, stride=2) for fine, coarse in pairwise(widths)
        )
        self.ups = nn.ModuleList(UpLevel(width, finer) for finer, width in pairwise(widths))
        self.last = nn.Conv3d(2 * features, features, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x[b, features, X, Y, Z]`` to the same shape."""
        skips = [self.levels[0](x)]
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            skips.append(level(down(skips[-1])))
        y = skips[-1]
        for up, (finer, skip) in zip(reversed(self.ups), reversed([*pairwise(skips)]), strict=True):
            y = up(y, skip, finer.shape[2:])
        return self.last(torch.cat([y, skips[0]], dim=1))
