"""Splits by any transfer function, as a Fourier transform of the whole volume."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fdseg.errors import FdsegError
from fdseg.frequency.masks import Mask
from fdseg.frequency.split import Split

_AXES = (2, 3, 4)


class MaskSplit(Split):
    """Splits volumes by a transfer function M(k), hard or soft: low is M's part, high the rest.

    Both bands are on the full grid, so the features of the low one see the same voxels as those of
    the high one; where :class:`BoxSplit` puts its low band on a small grid, they see more of the
    volume. Under autocast both methods compute in float32.

    Args:
        mask: makes M of the grid's size, as the functions of :mod:`fdseg.frequency.masks` do.
        size: the grid X, Y, Z; other sizes are followed when they come.

    Raises:
        FdsegError: the mask does not fit the grid, or refuses its own arguments.
    """

    def __init__(self, mask: Mask, size: Sequence[int] | None = None) -> None:
        super().__init__()
        self.mask = mask
        self._size: tuple[int, ...] = ()
        self.transfer: Tensor
        if size is not None:
            self._fit(torch.Size(size), torch.get_default_device())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``x[b, c, X, Y, Z]`` into ``low`` and ``high`` of its shape, which add up to it."""
        return separate(x, self._transfer(x))

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """The features whose two bands are nearest to ``high`` and ``low[b, c, X, Y, Z]``.

        With a hard mask these have the low band of ``low`` and the high band of ``high``.
        """
        return join(high, low, self._transfer(high))

    def extra_repr(self) -> str:
        """The name of the mask, and the grid."""
        made_by = getattr(self.mask, "func", self.mask)  # of a partial function
        return f"mask={getattr(made_by, '__name__', made_by)}, size={self._size}"

    def _fit(self, size: Sequence[int], device: torch.device) -> None:
        if tuple(size) == self._size:
            return
        with torch.inference_mode(False):  # a size first met in validation may be trained on later
            if device.type == "meta":  # only shapes are tried there, many of them and large
                value = torch.empty(_half_spectrum(size), device=device)
            else:
                value = self._make(size).to(device, torch.float32)
        self.register_buffer("transfer", value, persistent=False)
        self._size = tuple(size)

    def _make(self, size: Sequence[int]) -> Tensor:
        value = self.mask(size)
        if tuple(value.shape) != _half_spectrum(size):
            raise FdsegError(
                f"split.mask: gives {tuple(value.shape)} for a grid {tuple(size)}, "
                f"expected the half spectrum {_half_spectrum(size)} as of torch.fft.rfftn."
            )
        return value

    def _transfer(self, x: Tensor) -> Tensor:
        self._fit(x.shape[2:], x.device)
        exact = x.dtype == torch.float64
        return self._make(self._size).to(x.device) if exact else self.transfer.float()


def separate(x: Tensor, transfer: Tensor) -> tuple[Tensor, Tensor]:
    """Split ``x[b, c, X, Y, Z]`` into ``low`` and ``high`` by ``transfer[X, Y, Z//2+1]``."""
    exact = _exact(x)
    low = _volume(transfer * _spectrum(exact), x)
    return low.to(x.dtype), (exact - low).to(x.dtype)


def join(high: Tensor, low: Tensor, transfer: Tensor) -> Tensor:
    """The volume z with the least |(1 − M) z − high|² + |M z − low|²; all ``[b, c, X, Y, Z]``."""
    rest = 1 - transfer
    weight = 1 / (rest.square() + transfer.square())
    spectrum = (weight * rest) * _spectrum(_exact(high))
    spectrum = spectrum + (weight * transfer) * _spectrum(_exact(low))
    return _volume(spectrum, high).to(high.dtype)


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.rfftn(x, dim=_AXES)


def _volume(spectrum: Tensor, like: Tensor) -> Tensor:
    return torch.fft.irfftn(spectrum, s=like.shape[2:], dim=_AXES)


def _half_spectrum(size: Sequence[int]) -> tuple[int, ...]:
    x, y, z = size
    return x, y, z // 2 + 1
