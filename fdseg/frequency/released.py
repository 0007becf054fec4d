"""The split as the authors' released code computes it, to be compared with the paper's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fdseg.errors import FdsegError
from fdseg.frequency.bands import axis_thetas
from fdseg.frequency.split import Split


class ReleasedSplit(Split):
    """The half-open box at the centre of an *unshifted* spectrum, real parts taken.

    Without the shift the centre of the array is the Nyquist frequency: "low" here is the band of
    the *highest* frequencies along x and y, and "high" keeps the mean and all low frequencies. The
    box is not conjugate-symmetric, so the inverse transforms are complex and only their real parts
    go on: low and high need not add up to the volume. Written from the published description of
    the behaviour, as an FFT.

    Args:
        theta: width of the box, as a fraction of the axis in (0, 1] (0.1 in the released code).

    Raises:
        FdsegError: θ lies outside (0, 1], or its box holds no frequency of the grid.
    """

    def __init__(
        self, theta: float | Sequence[float] = 0.1, size: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.thetas = axis_thetas(theta)
        if size is not None:
            self._box(size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``x[b, c, X, Y, Z]`` into ``low[b, c, wx, wy, wz]`` and ``high[b, c, X, Y, Z]``."""
        box = self._box(x.shape[2:])
        spectrum = _spectrum(x)
        low = spectrum[box]
        high = spectrum.clone()
        high[box] = 0
        scale = low[0, 0].numel() / spectrum[0, 0].numel()  # keeps the intensity scale of x
        return _real_volume(low).mul(scale).to(x.dtype), _real_volume(high).to(x.dtype)

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """Put the spectrum of ``low[b, c, wx, wy, wz]`` into the box of ``high[b, c, X, Y, Z]``."""
        box = self._box(high.shape[2:])
        spectrum = _spectrum(high)
        fused = spectrum.clone()
        fused[box] = _spectrum(low) * (spectrum[0, 0].numel() / low[0, 0].numel())
        return _real_volume(fused).to(high.dtype)

    def extra_repr(self) -> str:
        """θ per axis."""
        return f"theta={self.thetas}"

    def _box(self, size: Sequence[int]) -> tuple[slice, ...]:
        box = [slice(None), slice(None)]  # every volume, every channel
        for axis, n, theta in zip("xyz", size, self.thetas, strict=True):
            width = int(n * theta)
            if width == 0:
                raise FdsegError(
                    f"theta={theta:g} selects none of the {n} frequencies along {axis}; "
                    f"the released code's box needs theta of at least {1 / n:.4g} here."
                )
            box.append(slice(int(n / 2 - width / 2), int(n / 2 + width / 2)))
        return tuple(box)


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.fftn(x if x.dtype == torch.float64 else x.float(), dim=(2, 3, 4))


def _real_volume(spectrum: Tensor) -> Tensor:
    return torch.fft.ifftn(spectrum, dim=(2, 3, 4)).real
