"""Transfer functions M(k) in [0, 1] over the frequencies of a grid, for :class:`MaskSplit`.

Each is a function of the grid ``size`` and returns ``[X, Y, Z//2+1]``, float64: the half of the
spectrum that a real volume has (``torch.fft.rfftn``); M(−k) = M(k) gives the other half. The shapes
have the box's θ: along an axis of N voxels half of their width is θN/2 cycles per field of view,
and an axis with θ = 1 does not count.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fdseg.frequency.bands import axis_thetas, cutoff, frequencies, warn_if_only_mean
from fdseg.values import require_value

Theta = float | Sequence[float]
Mask = Callable[[Sequence[int]], Tensor]


def box(size: Sequence[int], theta: Theta) -> Tensor:
    """1 where |k| ≤ ⌊θN/2⌋ along every axis: the paper's, here on the full grid."""
    return _half(_in_box(size, theta))


def ball(size: Sequence[int], theta: Theta) -> Tensor:
    """1 in the ellipsoid that touches the box's faces from inside."""
    warn_if_only_mean(size, axis_thetas(theta))
    # The nudge keeps frequencies on the surface, as that of the box's cutoff.
    return _half(_square_radius(size, theta) <= 1 + 1e-12)


def gaussian(size: Sequence[int], theta: Theta) -> Tensor:
    """A Gaussian that is 1/2 on the ellipsoid of :func:`ball`."""
    return _half(0.5 ** _square_radius(size, theta))


def butterworth(size: Sequence[int], theta: Theta, order: float = 2) -> Tensor:
    """1/(1 + r^(2·order)), 1/2 on the ellipsoid r = 1 of :func:`ball`; steeper with the order.

    Raises:
        FdsegError: the order is not positive.
    """
    require_value("split.mask.order", order)
    return _half(1 / (1 + _square_radius(size, theta) ** order))


def random(size: Sequence[int], theta: Theta, seed: int = 0) -> Tensor:
    """1 at as many frequencies as the box holds, drawn by the seed, each with its conjugate.

    Of the frequencies that are their own conjugates (0 and N/2 along every axis) it also has as
    many as the box, so that the numbers agree exactly.
    """
    inside = _in_box(size, theta).flatten()
    index = torch.arange(inside.numel(), device="cpu")
    grid = index.reshape(tuple(size))
    conjugate = grid.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2)).flatten()  # of k, where −k stands
    generator = torch.Generator("cpu").manual_seed(seed)
    mask = torch.zeros_like(inside)
    for kind in (index < conjugate, index == conjugate):
        one_of_each = index[kind]
        order = torch.randperm(len(one_of_each), generator=generator, device="cpu")
        mask[one_of_each[order[: int(inside[one_of_each].sum())]]] = True
    return _half((mask | mask[conjugate]).reshape(tuple(size)))


def complement(size: Sequence[int], mask: Mask) -> Tensor:
    """1 − M: low and high exchanged."""
    return 1 - mask(size)


def _in_box(size: Sequence[int], theta: Theta) -> Tensor:
    """Which frequencies of the full spectrum ``[X, Y, Z]`` lie in the box."""
    thetas = axis_thetas(theta)
    warn_if_only_mean(size, thetas)
    x, y, z = (k <= cutoff(n, t) for k, n, t in zip(frequencies(size), size, thetas, strict=True))
    return x & y & z


def _square_radius(size: Sequence[int], theta: Theta) -> Tensor:
    """r²(k) ``[X, Y, Z]``, the radius being 1 where the box of this θ ends along each axis."""
    axes = zip(frequencies(size), size, axis_thetas(theta), strict=True)
    x, y, z = ((k / (t * n / 2)) ** 2 if t < 1 else torch.zeros_like(k) for k, n, t in axes)
    return x + y + z


def _half(mask: Tensor) -> Tensor:
    return mask[..., : mask.shape[2] // 2 + 1].to(torch.float64, copy=True).contiguous()
