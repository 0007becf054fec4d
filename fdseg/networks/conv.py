"""The 3×3×3 convolution of stems, heads and the U-Net."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdseg.errors import FdsegError

# PyTorch (aten/src/ATen/native/Convolution.cpp, use_mkldnn) runs a float32 convolution on the CPU
# through oneDNN only from two volumes or this many values of c·X·Y on; below, it takes a path that
# was measured 3 to 4 times slower.
_SLOW_BELOW = 20480


def require_counts(most: int = 2**16, **counts: int) -> None:
    """Refuse what cannot be a number of channels, levels or voxels.

    Raises:
        FdsegError: a count, by its name, is not a whole number from 1 to the most there can be.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= most:
            raise FdsegError(f"{name}={count}: expected a whole number from 1 to {most}.")


class Conv3x3x3(nn.Conv3d):
    """A 3×3×3 convolution with zero padding and no bias, fast for one small volume on a CPU.

    A single small volume goes through as two halves that share their inner slices: the same
    result, on the fast path.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x[b, inputs, X, Y, Z]`` to ``[b, outputs, X, Y, Z]`` (each axis ⌈·/stride⌉)."""
        if self._needs_float32(x):
            with torch.autocast("cpu", enabled=False):
                weight = self.weight.float()
                return F.conv3d(x.float(), weight, None, self.stride, self.padding).to(x.dtype)
        if not self._halves(x):
            return super().forward(x)
        half = x.shape[2] // 2
        x = F.pad(x, (0, 0, 0, 0, 1, 1))
        x = torch.cat([x[:, :, : half + 2], x[:, :, half:]])
        first, second = F.conv3d(x, self.weight, padding=(0, 1, 1)).split(1)
        return torch.cat([first, second], dim=2)

    def _needs_float32(self, x: Tensor) -> bool:
        """Return whether oneDNN's bfloat16 kernels are wrong for this volume on some processors.

        They return zeros or unwritten memory for one channel with one voxel along x, which the low
        band of a small θ has, and with stride 2 for one or two voxels along z.
        """
        reduced = torch.is_autocast_enabled("cpu") or x.dtype in (torch.bfloat16, torch.float16)
        if not reduced or x.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        flat = min(x.shape[2:]) <= self.stride[0]  # one voxel along an axis of the result
        return flat and (x.shape[1] == 1 or self.stride[0] > 1)

    def _halves(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling() or x.device.type != "cpu" or self.stride[0] != 1:
            return False
        b, c, size_x, size_y, _ = x.shape
        return b == 1 and c >= 8 and c * size_x * size_y <= _SLOW_BELOW and size_x % 2 == 0


class RescaledConv3x3x3(Conv3x3x3):
    """One convolution that Adam starts and moves like the sum of several on the same volume.

    The sum of s convolutions of the same input is one convolution with √s the initial scale, and
    as Adam moves each of them alike, it moves s times as far in a step. Adam's step does not depend
    on the scale of the gradient, so ``conv(s·x)`` with weights of 1/√s the usual scale does just
    that: its weight on ``x`` is s times larger than its parameter, in scale and in step.

    Args:
        inputs: channels in.
        outputs: channels out.
        stems: number of convolutions s that it stands for.
    """

    def __init__(self, inputs: int, outputs: int, stems: int = 2) -> None:
        super().__init__(inputs, outputs)
        self.stems = stems
        with torch.no_grad():
            self.weight.div_(stems**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``x[b, inputs, X, Y, Z]`` to ``[b, outputs, X, Y, Z]``."""
        return super().forward(self.stems * x)
