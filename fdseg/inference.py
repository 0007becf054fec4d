"""Probabilities on the network's grid: over several runs, flips and windows, within a budget."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from fdseg.errors import FdsegError
from fdseg.memory import forward_gb, used_gb
from fdseg.trained import TrainedRun

_SMALLEST = 32  # voxels along an axis of a window; less shows a network too little
_OVERLAP = 0.5  # of neighbouring windows, as nnU-Net has it


class Predictor:
    """Segments volumes on the network's grid by one run, or by the mean of several.

    Where the whole grid does not fit into the memory, MONAI's sliding windows are used. They are
    an approximation: instance norms and the low band of a window are those of the window, not of
    the volume. Where the grid fits there are no windows.

    Args:
        trained: runs that agree, as :func:`fdseg.trained.read_runs` returns them.
        device: where to compute.
        flips: average over all eight flips of the axes.
        memory_gb: that this process may take in all.

    Attributes:
        trained, device, memory_gb: as given.
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
        self.whole_gb = self._needs(self.size)
        self.window = None if self.whole_gb <= room else self._window(room)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Probabilities ``[structures, *size]``, float32, of a preprocessed volume ``[*size]``."""
        x = torch.from_numpy(image)[None, None].to(self.device)
        total: Tensor | float = 0.0
        for run in self.trained:
            for axes in self.flips:
                total = total + self._probabilities(run, x.flip(axes)).flip(axes)
        mean = total / (len(self.trained) * len(self.flips))
        return mean[0].cpu().numpy()  # type: ignore[index]

    def describe(self) -> str:
        """For a person: how the grid is worked through."""
        grid = "×".join(map(str, self.size))
        if self.window is None:
            return f"The network takes about {self.whole_gb:.1f} GB for {grid} voxels at once."
        return (
            f"The network would take about {self.whole_gb:.1f} GB for {grid} voxels at once, so it "
            f"works in windows of {'×'.join(map(str, self.window))}. Its norms and its low band "
            "are those of a window then, so labels may differ a little."
        )

    def _probabilities(self, run: TrainedRun, x: Tensor) -> Tensor:
        if self.window is None:
            return run.probabilities(x)
        from monai.inferers import sliding_window_inference

        return sliding_window_inference(  # type: ignore[return-value]
            x, self.window, 1, run.probabilities, overlap=_OVERLAP, mode="gaussian"
        )

    def _needs(self, size: Sequence[int]) -> float:
        """GB of a forward pass on this grid, and of the probabilities: total, pass and windows'."""
        structures = len(self.trained[0].structures)
        held = 4 * 4 * structures * np.prod(self.size) / 1e9
        return max(forward_gb(run.network, size) for run in self._kinds()) + held

    def _kinds(self) -> list[TrainedRun]:
        """One run of each kind of network: a sweep's seeds all take the same."""
        kinds = {str(run.network): run for run in self.trained}
        return list(kinds.values())

    def _window(self, room: float) -> tuple[int, ...]:
        """The largest window that fits, by halving the longest axis."""
        window = list(self.size)
        needed = self.whole_gb
        while max(window) > _SMALLEST:
            longest = int(np.argmax(window))
            window[longest] = max(-(-window[longest] // 16) * 8, _SMALLEST)  # half, in eights
            try:
                needed = self._needs(window)
            except (RuntimeError, ValueError, AssertionError):
                break  # a backbone, such as UNETR, that takes its own grid only
            if needed <= room:
                return tuple(window)
        raise FdsegError(
            f"memory_gb={self.memory_gb:.1f}: {room:.1f} GB of it are left, and the network needs "
            f"{needed:.1f} GB at the least."
        )
