"""The paper's split: a box in Fourier space, applied axis by axis as real matrices."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fdseg.frequency.bands import axis_thetas, band_size, down_matrix, up_matrix, warn_if_only_mean
from fdseg.frequency.split import Split


class BoxSplit(Split):
    """Splits volumes into a low and a high band by a box of width θ, and fuses features back.

    The projection is that of ``ifftn(mask · fftn(x))`` with the mask |k| ≤ ⌊θN/2⌋ per axis, without
    a complex number: each axis is one small real matrix (see :mod:`fdseg.frequency.bands`). Under
    autocast both methods compute in the precision of the tensors they are given.

    Args:
        theta: width of the band, as a fraction of the axis in (0, 1]: a number for x and y (all of
            z stays, as in the paper) or one per axis.
        size: the grid X, Y, Z; other sizes are followed when they come, but a network that is
            compiled or exported should know its size from the start.

    Raises:
        FdsegError: θ lies outside (0, 1].
    """

    def __init__(
        self, theta: float | Sequence[float] = 0.1, size: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.thetas = axis_thetas(theta)
        self._size: tuple[int, ...] = ()
        self._axes: list[int] = []
        if size is not None:
            self._fit(torch.Size(size), torch.get_default_device())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``x[b, c, X, Y, Z]`` into ``low[b, c, mx, my, mz]`` and ``high[b, c, X, Y, Z]``.

        ``low`` is the low band on its own small grid, on the intensity scale of ``x``; ``high``
        is the rest on the full grid: ``low`` interpolated, plus ``high``, is ``x``.
        """
        self._fit(x.shape[2:], x.device)
        with _without_autocast(x):
            order = _memory_order(x)
            x = x.permute(order)
            low = self._down(x, order)
            high = self._add_up(x, -low, order)
        back = _inverse(order)
        return low.to(x.dtype).permute(back), high.permute(back)

    def fuse(self, high: Tensor, low: Tensor) -> Tensor:
        """Replace the low band of ``high[b, c, X, Y, Z]`` by ``low[b, c, mx, my, mz]``."""
        self._fit(high.shape[2:], high.device)
        with _without_autocast(high):
            order = _memory_order(high)
            high, low = high.permute(order), low.permute(order)
            fused = self._add_up(high, low - self._down(high, order), order)
        return fused.permute(_inverse(order))

    def extra_repr(self) -> str:
        """θ per axis, and the grid with its low band."""
        bands = [band_size(n, t) for n, t in zip(self._size, self.thetas, strict=False)]
        return f"theta={self.thetas}, size={self._size}, low={tuple(bands)}"

    def _fit(self, size: Sequence[int], device: torch.device) -> None:
        """Make the matrices of a grid; an axis that the band covers whole needs none."""
        if tuple(size) == self._size:
            return
        self._size = tuple(size)
        warn_if_only_mean(self._size, self.thetas)
        bands = list(enumerate(zip(self._size, self.thetas, strict=True)))
        self._axes = [axis for axis, (n, theta) in bands if band_size(n, theta) < n]
        with torch.inference_mode(False):  # a size first met in validation may be trained on later
            for axis, (n, theta) in bands:
                for name, make in (("down", down_matrix), ("up", up_matrix)):
                    value = _on(device, make, n, theta) if axis in self._axes else None
                    self.register_buffer(f"{name}{axis}", value, persistent=False)

    def _matrix(self, name: str, axis: int, dtype: torch.dtype) -> Tensor:
        buffer = getattr(self, f"{name}{axis}")
        if dtype != torch.float64:
            return buffer.to(dtype)
        make = down_matrix if name == "down" else up_matrix
        return make(self._size[axis], self.thetas[axis]).to(buffer.device)

    def _down(self, x: Tensor, order: list[int]) -> Tensor:
        """To the small grid. The first axis reads ``x`` once; what is left is small, in float32."""
        for axis in self._axes:
            x = _apply(self._matrix("down", axis, x.dtype), x, order.index(2 + axis))
            x = x if x.dtype == torch.float64 else x.float()
        return x

    def _add_up(self, base: Tensor, small: Tensor, order: list[int]) -> Tensor:
        """``base + up small``: the last axis multiplies and adds in one pass over ``base``."""
        if not self._axes:
            return base + small.to(base.dtype)
        first, *rest = self._axes
        for axis in reversed(rest):
            matrix = self._matrix("up", axis, small.dtype)
            small = _apply(matrix, small, order.index(2 + axis))
        matrix = self._matrix("up", first, base.dtype)
        return _apply(matrix, small.to(base.dtype), order.index(2 + first), base)


def _on(device: torch.device, make: Callable[[int, float], Tensor], n: int, theta: float) -> Tensor:
    if device.type != "meta":
        return make(n, theta).to(device, torch.float32)
    down = torch.empty(band_size(n, theta), n, device=device)  # only shapes are tried there
    return down if make is down_matrix else down.T


def _without_autocast(x: Tensor) -> torch.autocast:
    """Autocast off on the device of ``x``; the meta device, where sizes are tried, has none."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)


def _memory_order(x: Tensor) -> list[int]:
    """The order in which the dimensions of ``x`` lie in memory, so that nothing is copied."""
    last = x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
    return [0, 2, 3, 4, 1] if last else [0, 1, 2, 3, 4]


def _inverse(order: list[int]) -> list[int]:
    return [order.index(dim) for dim in range(5)]


def _apply(matrix: Tensor, x: Tensor, dim: int, base: Tensor | None = None) -> Tensor:
    """``matrix[p, q]`` along a dimension of ``x[…q…]``, added to ``base[…p…]`` where given."""
    shape = [*x.shape[:dim], matrix.shape[0], *x.shape[dim + 1 :]]
    batch = math.prod(x.shape[:dim])
    x = x.reshape(batch, matrix.shape[1], -1)
    matrix = matrix.expand(batch, -1, -1)
    if base is None:
        return torch.bmm(matrix, x).reshape(shape)
    return torch.baddbmm(base.reshape(batch, shape[dim], -1), matrix, x).reshape(shape)
