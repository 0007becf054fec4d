"""One axis of the frequency box: two small real matrices instead of a Fourier transform.

Along an axis of N voxels the band of width θ keeps the integer frequencies |k| ≤ K = ⌊θN/2⌋, that
is m = 2K + 1 real degrees of freedom (Fu et al. 2024, equations 1 and 2, in symmetric form).
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fdseg.values import require_value


def cutoff(size: int, theta: float) -> int:
    """The highest frequency K, in cycles per field of view, inside a band of width θ.

    Args:
        size: number of voxels N along the axis.
        theta: full width of the band as a fraction of the axis, in (0, 1].
    """
    # The smallest nudge keeps θ = 0.3, N = 20 at K = 3, which floating point would make 2.999….
    return math.floor(theta * size / 2 * (1 + 1e-12))


def band_size(size: int, theta: float) -> int:
    """Points m of the small grid: 2K + 1, or all N where the band covers the axis."""
    return min(2 * cutoff(size, theta) + 1, size)


def frequencies(size: Sequence[int]) -> list[Tensor]:
    """|k| of every frequency along each axis (float64), to be broadcast to the grid ``[X, Y, Z]``.

    In the order of a Fourier transform, in cycles per field of view.
    """
    axes = []
    for axis, n in enumerate(size):
        index = torch.arange(n, dtype=torch.float64, device="cpu")
        shape = [-1 if other == axis else 1 for other in range(len(size))]
        axes.append(torch.minimum(index, n - index).reshape(shape))
    return axes


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a cached matrix must also serve training
def down_matrix(size: int, theta: float) -> Tensor:
    """The matrix ``down[m, N]`` (float64): band-limit an axis, then sample it at m points.

    The sum over |k| ≤ K of cos 2πk(j/m − n/N) is Dirichlet's kernel, sin(πq/N) / sin(πq/mN) with
    q = jN − nm.
    """
    m = band_size(size, theta)
    if m == size:
        return torch.eye(size, dtype=torch.float64, device="cpu")
    j = torch.arange(m, device="cpu")[:, None]
    n = torch.arange(size, device="cpu")[None, :]
    # Whole numbers keep the sines' arguments exact, and within the period about 0.
    q = _about_zero(j * size - n * m, m * size)
    upper = torch.sin(torch.pi * _about_zero(q, 2 * size).double() / size)
    lower = torch.sin(torch.pi * q.double() / (m * size))
    return (upper / lower).where(q != 0, float(m)) / size


def _about_zero(values: Tensor, period: int) -> Tensor:
    half = period // 2
    return (values + half) % period - half


def up_matrix(size: int, theta: float) -> Tensor:
    """The matrix ``up[N, m]`` (float64): trigonometric interpolation of m points to N voxels.

    ``down @ up`` is the identity on m points, ``up @ down`` the orthogonal projection on the band.
    """
    down = down_matrix(size, theta)
    return down.T * (size / down.shape[0])


def axis_thetas(theta: float | Sequence[float]) -> tuple[float, float, float]:
    """θ for each axis: a number stands for x and y with all of z, as in the paper.

    Raises:
        FdsegError: θ is not one or three numbers in (0, 1].
    """
    require_value("theta", theta)
    x, y, z = theta if isinstance(theta, Sequence) else (theta, theta, 1.0)
    return float(x), float(y), float(z)


def warn_if_only_mean(sizes: Sequence[int], thetas: Sequence[float]) -> None:
    """Warn where a band is so narrow that it keeps the mean of an axis and nothing else."""
    for axis, size, theta in zip("xyz", sizes, thetas, strict=True):
        if cutoff(size, theta) == 0 and size > 1:
            warnings.warn(
                f"theta={theta:g} leaves only the mean along {axis} ({size} voxels): the low band "
                f"has no structure there. The smallest θ that keeps one cycle is {2 / size:.4g}.",
                stacklevel=3,
            )
