"""Where the energy of a volume lies among the frequencies, and which of it a mask gets right.

Frequencies are those of the paper's box: of the plane x, y, with all of z. Their radius is
r = √((2 kx / X)² + (2 ky / Y)²), so that r = θ is the circle inside a box of width θ, r = 1 the
Nyquist frequency along an axis, and √2 the corners. A volume's mean over a slice has r = 0.

How much of each frequency a network has learned was measured so by Rahaman et al., *On the
spectral bias of neural networks* (ICML 2019), and Xu et al., *Frequency principle* (ICONIP 2019,
arXiv:1807.01251): low frequencies come first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fdseg.frequency.bands import frequencies
from fdseg.frequency.box import BoxSplit

_PLANE = (-3, -2)


def energy(x: Tensor) -> Tensor:
    """Energy of ``x[..., X, Y, Z]`` at every frequency of the plane, ``[X, Y//2+1]``, float64.

    It is summed over z and all leading axes, and over a frequency and its conjugate, where the half
    of the spectrum has one of the two. All of it adds up to Σx² (Parseval).
    """
    size_x, size_y = x.shape[-3:-1]
    x = x if x.dtype == torch.float64 else x.float()
    amplitude = torch.view_as_real(torch.fft.rfftn(x, dim=_PLANE, norm="ortho"))
    power = amplitude.square().sum(dim=(-1, -2)).reshape(-1, size_x, size_y // 2 + 1).sum(dim=0)
    return power.cpu().double() * _copies(size_y)


def radius(size: Sequence[int]) -> Tensor:
    """r of every frequency of :func:`energy`, ``[X, Y//2+1]``, for a grid X, Y, Z."""
    x, y = (k / (n / 2) for k, n in zip(frequencies(size[:2]), size[:2], strict=True))
    return (x.square() + y.square()).sqrt()[:, : size[1] // 2 + 1]


def edges(bands: int) -> list[tuple[float, float]]:
    """Lower and upper r of bands of equal width to r = 1; the last one has the corners too.

    A band has its upper edge, as the box has its own; the first one has the mean.
    """
    lower = [band / bands for band in range(bands)]
    return list(zip(lower, [*lower[1:], 2**0.5], strict=True))


def band_energy(x: Tensor, bands: int) -> Tensor:
    """Energy of ``x[..., X, Y, Z]`` in each band, ``[bands]``, float64; it adds up to Σx²."""
    return _gather(energy(x), x.shape[-3:], bands)


def band_error(prediction: Tensor, target: Tensor, bands: int) -> Tensor:
    """‖band(P) − band(Y)‖² / ‖band(Y)‖² in each band, ``[bands]``, float64.

    0 where the prediction is right; 1 as for an empty mask; 2 where it has the target's energy and
    nothing else in common with it. NaN or infinite where the target has no energy.

    Args:
        prediction: P, masks ``[..., X, Y, Z]``; energies are summed over the leading axes.
        target: Y, of the same shape.
        bands: their number, see :func:`edges`.
    """
    return difference_energy(prediction, target, bands) / band_energy(target, bands)


def difference_energy(prediction: Tensor, target: Tensor, bands: int) -> Tensor:
    """Energy of P − Y in each band, ``[bands]``; both may be boolean masks ``[..., X, Y, Z]``."""
    return band_energy(prediction.to(torch.float32) - target.to(torch.float32), bands)


def radial_power(x: Tensor, bands: int) -> Tensor:
    """Mean energy of a frequency of ``x[..., X, Y, Z]`` in each band, ``[bands]``.

    NaN where a band has no frequency: there is at least one in each for bands ≤ min(X, Y) / 2.
    """
    size = x.shape[-3:]
    one_each = _copies(size[1]).expand(size[0], -1)
    return band_energy(x, bands) / _gather(one_each, size, bands)


def share_above(x: Tensor, theta: float | Sequence[float]) -> float:
    """‖high(x)‖² / ‖x‖²: the share of the energy of ``x[..., X, Y, Z]`` outside the box of width θ.

    NaN where there is no energy.

    Raises:
        FdsegError: θ lies outside (0, 1].
    """
    x = x.reshape(-1, 1, *x.shape[-3:]).double()
    _, high = BoxSplit(theta)(x)
    return float(high.square().sum() / x.square().sum())


def _copies(size_y: int) -> Tensor:
    """How many frequencies each column of the half spectrum stands for, ``[Y//2+1]``."""
    copies = torch.full((size_y // 2 + 1,), 2.0, dtype=torch.float64)
    copies[0] = 1
    if size_y % 2 == 0:
        copies[-1] = 1
    return copies


def _gather(values: Tensor, size: Sequence[int], bands: int) -> Tensor:
    """Sum values ``[X, Y//2+1]`` by band."""
    # The nudge keeps a frequency on an edge in the band that ends there.
    band = (radius(size) * bands * (1 - 1e-12)).ceil().long().clamp(1, bands) - 1
    return torch.bincount(band.flatten(), values.flatten(), minlength=bands)
