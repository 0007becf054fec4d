"""Stem, frequency fusion and head around any backbone."""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdseg.errors import FdsegError, first_line
from fdseg.frequency import BoxSplit, Split
from fdseg.networks.conv import Conv3x3x3, require_counts
from fdseg.networks.unet import ConvBlock

Fusion = Literal["none", "early", "late"]


class SegmentationNetwork(nn.Module):
    """A segmentation network that may learn low and high frequencies apart (Fu et al. 2024).

    ========  ===============================================================
    fusion    forward
    ========  ===============================================================
    none      ``head(backbone(stem(x)))``
    early     ``head(backbone(fuse(stem_high(high), stem_low(low))))``
    late      ``head(fuse(backbone(stem_high(high)), stem_low(low)))``
    ========  ===============================================================

    Stems are one 3×3×3 convolution each; the head is one 3×3×3 block and a 1×1×1 convolution. The
    backbone never knows about frequencies.

    Args:
        backbone: maps ``[b, features, X, Y, Z]`` to the same shape.
        features: channels into and out of the backbone.
        structures: channels of the output, one per structure, background not counted.
        fusion: none, early or late.
        split: how volumes are split and features fused; not used, and not kept, with none.
        channels: channels of the input volume.
        multiple_of: the backbone's grid is padded to a multiple of this and cropped again.
        minimum: smallest grid per axis the backbone can take; smaller ones are padded to it.
        stem: makes each stem of its channels in and out.

    Raises:
        FdsegError: a number is not a whole one, or below 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        structures: int,
        fusion: Fusion = "none",
        split: Split | None = None,
        channels: int = 1,
        multiple_of: int = 1,
        minimum: int = 1,
        stem: Callable[[int, int], nn.Module] = Conv3x3x3,
    ) -> None:
        super().__init__()
        if fusion not in ("none", "early", "late"):
            raise ValueError(f"fusion={fusion!r}: expected none, early or late")
        require_counts(
            features=features, structures=structures, channels=channels, multiple_of=multiple_of,
            minimum=minimum,
        )  # fmt: skip
        self.fusion = fusion
        self.features, self.multiple_of, self.minimum = features, multiple_of, minimum
        self.split: Split | None = None if fusion == "none" else (split or BoxSplit())
        self.stem = stem(channels, features)
        self.stem_low = None if fusion == "none" else stem(channels, features)
        self.backbone = backbone
        self.head = nn.Sequential(
            ConvBlock(features, features), nn.Conv3d(features, structures, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[b, structures, X, Y, Z]`` of volumes ``x[b, channels, X, Y, Z]``."""
        if self.split is None or self.stem_low is None:
            return self.head(self._backbone(self.stem(x)))
        low, high = self.split(x)
        low, high = self.stem_low(low), self.stem(high)
        if self.fusion == "early":
            return self.head(self._backbone(self.split.fuse(high, low)))
        return self.head(self.split.fuse(self._backbone(high), low))

    def _backbone(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        missing = [padded_length(n, self.multiple_of, self.minimum) - n for n in size]
        if not any(missing):
            return self.backbone(x)
        pads = [part for m in reversed(missing) for part in (m // 2, m - m // 2)]
        y = self.backbone(F.pad(x, pads))
        for axis, (n, m) in enumerate(zip(size, missing, strict=True)):
            y = y.narrow(2 + axis, m // 2, n)
        return y


def padded_length(length: int, multiple_of: int, minimum: int = 1) -> int:
    """The smallest multiple of ``multiple_of`` not below ``length`` and ``minimum``, in voxels."""
    return -(-max(length, minimum) // multiple_of) * multiple_of


def require_size(network: nn.Module, size: Sequence[int], channels: int = 1) -> None:
    """Refuse a grid that a network cannot take, before any long work.

    The network is tried without computing anything (on PyTorch's ``meta`` device).

    Args:
        network: maps ``[b, channels, X, Y, Z]`` to ``[b, structures, X, Y, Z]``.
        size: the grid X, Y, Z in voxels.
        channels: of the input.

    Raises:
        FdsegError: the network fails or changes the grid; names the nearest grids that work.
    """
    network = copy.deepcopy(network).to("meta").train()
    problem = _try(network, size, channels)
    if problem is None:
        return
    near = []
    for step in (2, 4, 8, 16, 32, 64):
        for candidate in (
            [max(n // step, 1) * step for n in size],
            [padded_length(n, step) for n in size],
        ):
            if candidate not in near and _try(network, candidate, channels) is None:
                near.append(candidate)
    near.sort(key=lambda other: sum(abs(a - b) for a, b in zip(size, other, strict=True)))
    works = " or ".join(f"data.size={grid}".replace(" ", "") for grid in near[:2])
    raise FdsegError(
        f"data.size={list(size)}: the backbone cannot take this grid ({problem}). "
        + (f"The nearest that work: {works}; " if works else "No grid near it works; ")
        + "or let it be padded, with backbone.multiple_of and backbone.minimum."
    )


def _try(network: nn.Module, size: Sequence[int], channels: int) -> str | None:
    """What goes wrong with a training step on this grid, if anything."""
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            shape = network(torch.empty(1, channels, *size, device="meta")).shape
    except (RuntimeError, ValueError, AssertionError, IndexError, FdsegError) as error:
        return first_line(error)
    if tuple(shape[2:]) != tuple(size):
        return f"it returns {'×'.join(map(str, shape[2:]))}"
    return None
