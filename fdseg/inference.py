"""Probabilities on the network's grid: over several runs, flips and windows, within a budget."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fdseg.data.labels import require_finite
from fdseg.errors import FdsegError
from fdseg.memory import forward_gb, used_gb
from fdseg.networks import SegmentationNetwork
from fdseg.networks.disentangled import padded_length
from fdseg.precision_check import find_wrong_results
from fdseg.trained import TrainedRun
from fdseg.windows import in_windows

_SMALLEST = 32  # voxels along an axis of a window; less shows a network too little


class Predictor:
    """Segments volumes on the network's grid by one run, or by the mean of several.

    Where the whole grid does not fit into the memory, MONAI's sliding windows are used, which is
    an approximation; see :mod:`fdseg.windows`. Where it fits there are no windows.

    Args:
        trained: runs that agree, as :func:`fdseg.trained.read_runs` returns them.
        device: where to compute.
        flips: average over all eight flips of the axes.
        memory_gb: that this process may take in all.

    Attributes:
        trained: as given, but for windows.
        device, memory_gb: as given.
        window: X, Y, Z in voxels; ``None`` where whole grids are used.
        whole_gb: about what the whole grid takes.

    Raises:
        FdsegError: not even a small window fits.
    """

    def __init__(
        self,
        trained: Sequence[TrainedRun],
        *,
        device: torch.device,
        flips: bool = False,
        memory_gb: float,
    ) -> None:
        self.trained, self.device, self.memory_gb = list(trained), device, memory_gb
        self.flips = [f for n in range(4) for f in combinations((2, 3, 4), n)] if flips else [()]
        for run in trained:
            run.network.to(device)
            if device.type == "cpu":  # the fast layout there, and that of training
                run.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.size = trained[0].preprocessing.size
        room = memory_gb - used_gb()
        if device.type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] / 1e9
        self.whole_gb = self._needs(self.size, 4 * len(trained[0].structures))
        self._is_checked = False
        self.window = None
        if self.whole_gb > room:
            self.window = self._largest_window(room)
            self.trained = [
                replace(run, network=in_windows(run.network, self.window)) for run in trained
            ]

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, of: str = "the volume") -> np.ndarray:
        """Probabilities ``[structures, *size]``, float32, of a preprocessed volume ``[*size]``.

        Raises:
            FdsegError: those of a run are not finite; names it, and ``of`` whose they are.
        """
        x = torch.from_numpy(image)[None, None].to(self.device)
        if not self._is_checked:
            self._leave_wrong_precision(x)
        total: Tensor | float = 0.0
        for run in self.trained:
            for axes in self.flips:
                probabilities = run.probabilities(x.flip(axes))
                require_finite(probabilities, f"{of}, by {run.folder}")
                total = total + probabilities.flip(axes)
        mean = total / (len(self.trained) * len(self.flips))
        return mean[0].cpu().numpy()  # type: ignore[index]

    def _leave_wrong_precision(self, x: Tensor) -> None:
        """Compute in float32 by runs whose own precision is wrong on this machine, and say so."""
        self._is_checked = True
        known: dict[tuple[str, torch.dtype], str | None] = {}  # the seeds of a sweep compute alike
        for place, run in enumerate(self.trained):
            if run.autocast is None:
                continue
            kind = str(run.network), run.autocast
            if kind not in known:
                reduced = partial(torch.autocast, self.device.type, run.autocast)
                known[kind] = find_wrong_results(run.network, x, reduced)
            if known[kind]:
                self.trained[place] = replace(run, autocast=None)
        for (_, dtype), wrong in known.items():
            if wrong:
                warnings.warn(
                    f"{dtype} computes wrong results for this network on this machine ({wrong}), "
                    "so float32 is used instead.",
                    stacklevel=1,
                )

    def describe(self) -> str:
        """For a person: how the grid is worked through."""
        grid = "×".join(map(str, self.size))
        if self.window is None:
            return f"The network takes about {self.whole_gb:.1f} GB for {grid} voxels at once."
        return (
            f"The network would take about {self.whole_gb:.1f} GB for {grid} voxels at once, so it "
            f"works in windows of {'×'.join(map(str, self.window))}: slower, and labels may differ."
        )

    def _needs(self, size: Sequence[int], channels: int) -> float:
        """GB of a forward pass on this grid, and of so many channels kept on the whole grid."""
        held = 4 * channels * math.prod(self.size) / 1e9
        return max(forward_gb(network, size) for network in self._kinds()) + held

    def _kinds(self) -> list[SegmentationNetwork]:
        """One network of each kind: a sweep's seeds all take the same memory."""
        return list({str(run.network): run.network for run in self.trained}.values())

    def _largest_window(self, room: float) -> tuple[int, ...]:
        """The largest window that fits, by halving the longest axis."""
        kinds = self._kinds()
        multiple = math.lcm(*(network.multiple_of for network in kinds))
        minimum = max(network.minimum for network in kinds)
        step = padded_length(8, multiple)
        smallest = padded_length(_SMALLEST, step, minimum)
        features = max(network.features for network in kinds)
        # Of features: the high band's, the fused and the backbone's; the rest is to be safe.
        channels = 4 * (features + len(self.trained[0].structures))
        window = [padded_length(n, multiple, minimum) for n in self.size]
        needed = self.whole_gb
        while max(window) > smallest:
            longest = int(np.argmax(window))
            window[longest] = max(padded_length(-(-window[longest] // 2), step), smallest)
            try:
                needed = self._needs(window, channels)
            except (RuntimeError, ValueError, AssertionError):
                break  # a backbone, such as UNETR, that takes its own grid only
            if needed <= room:
                return tuple(window)
        raise FdsegError(
            f"memory_gb={self.memory_gb:.1f}: {room:.1f} GB of it are left, and the network needs "
            f"about {needed:.1f} GB at the least."
        )


def find_device(name: str) -> torch.device:
    """The device that ``device=…`` names: auto (cuda where there is one), cpu or cuda.

    Raises:
        FdsegError: there is no such device here.
    """
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise FdsegError("device=cuda: PyTorch finds no GPU here. Use device=cpu.")
    return torch.device("cuda" if cuda and name != "cpu" else "cpu")
