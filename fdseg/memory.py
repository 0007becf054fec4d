"""How much memory there is, is used, and a network will use. A GB is 10⁹ bytes."""

import copy
import resource
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fdseg.data.memory import available

# Measured on a CPU over the backbones of the configuration: the peak of the process is this much
# more than that of the tensors, for oneDNN's reordered copies and its compiled kernels.
_OVERHEAD, _KERNELS_GB = 1.3, 0.15


def available_gb() -> float:
    """What this process may take in all: what it has and what is free, on machine and container."""
    return used_gb() + available() / 1e9


def used_gb() -> float:
    """What this process has now."""
    return psutil.Process().memory_info().rss / 1e9


def peak_gb() -> float:
    """The most this process has had."""
    try:  # Linux; the other count goes on from that of the program which started this one
        status = Path("/proc/self/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(peak / 1e9, used_gb())


def forward_gb(network: nn.Module, size: Sequence[int], channels: int = 1) -> float:
    """About how much a network takes, besides its weights, to predict one volume.

    It is run without computing anything (on PyTorch's ``meta`` device), counting what is alive.

    Args:
        network: maps ``[1, channels, X, Y, Z]`` to ``[1, structures, X, Y, Z]``.
        size: the grid X, Y, Z in voxels.
        channels: of the input.
    """
    network = copy.deepcopy(network).to("meta").eval()
    with torch.inference_mode(), _Alive() as alive:
        network(torch.empty(1, channels, *size, device="meta")).sigmoid()
    return _OVERHEAD * alive.peak / 1e9 + _KERNELS_GB


class _Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)
