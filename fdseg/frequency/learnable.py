"""A box in Fourier space whose width is trained with the network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fdseg.errors import FdsegError
from fdseg.frequency.bands import axis_thetas, frequencies
from fdseg.frequency.mask import join, separate
from fdseg.frequency.split import Split
from fdseg.values import require_value

_SMALLEST = 1e-6  # θ stays above 0


class LearnableSplit(Split):
    """Splits volumes by a box with soft edges, and learns its width θ.

    Along an axis of N voxels the box is sigmoid((θN/2 + 1/2 − |k|)/softness): half height midway
    between the last frequency inside and the first outside where θN/2 is whole. An edge must be
    soft to have a gradient; as softness goes to 0 it becomes that of the box with θN/2 rounded.

    Args:
        theta: where θ starts, in (0, 1]: a number is one θ for x and y (all of z stays), three are
            one for each axis. An axis that starts at 1 is whole and stays so.
        softness: of the edge, in cycles per field of view.

    Raises:
        FdsegError: θ lies outside (0, 1] or is 1 for all axes; softness is not positive.
    """

    def __init__(self, theta: float | Sequence[float] = 0.1, softness: float = 0.5) -> None:
        super().__init__()
        self.axes = [axis for axis, start in enumerate(axis_thetas(theta)) if start < 1]
        if not self.axes:
            raise FdsegError(f"theta={theta}: all axes are whole, so there is no width to learn.")
        require_value("split.softness", softness)
        self.softness = softness
        starts = [theta[axis] for axis in self.axes] if isinstance(theta, Sequence) else [theta]
        self.theta = nn.Parameter(torch.tensor(starts, dtype=torch.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``x[b, c, X, Y, Z]`` into ``low`` and ``high`` of its shape, which add up to it."""
        if self.training:
            with torch.no_grad():  # where the optimiser stepped out of (0, 1], back to its edge
                self.theta.clamp_(_SMALLEST, 1)
        return separate(x, self._transfer(x))

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """The features whose two bands are nearest to ``high`` and ``low[b, c, X, Y, Z]``."""
        return join(high, low, self._transfer(high))

    def learned(self) -> dict[str, Tensor]:
        """θ; by axis where there is one for each."""
        theta = self._theta().detach()
        if len(theta) < len(self.axes):
            return {"theta": theta[0]}
        return {f"theta_{'xyz'[a]}": t for a, t in zip(self.axes, theta, strict=True)}

    def extra_repr(self) -> str:
        """θ as it is, and the softness."""
        learned = ", ".join(f"{name}={value:.4g}" for name, value in self.learned().items())
        return f"{learned}, softness={self.softness:g}"

    def _theta(self) -> Tensor:
        return self.theta.clamp(_SMALLEST, 1)

    def _transfer(self, x: Tensor) -> Tensor:
        """M of the half spectrum, to be broadcast to ``[X, Y, Z//2+1]``."""
        size, dtype = x.shape[2:], torch.float64 if x.dtype == torch.float64 else torch.float32
        transfer = torch.ones(1, 1, 1, dtype=dtype, device=x.device)
        for axis, theta in zip(self.axes, self._theta().expand(len(self.axes)), strict=True):
            edge = theta * (size[axis] / 2) + 0.5
            k = frequencies(size)[axis].to(x.device, dtype)
            transfer = transfer * torch.sigmoid((edge - k) / self.softness)
        return transfer[..., : size[2] // 2 + 1]
