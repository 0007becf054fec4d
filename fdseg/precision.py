"""Which precision this machine computes natively, told without loading PyTorch where possible."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# oneDNN's bfloat16 convolutions write beyond their memory where x is short against y and z. Of 944
# random shapes, 33 ended the process, all with min(y, z) of 7 x and more.
_SHORT = 6


def overruns_memory(size: Sequence[int]) -> bool:
    """Return whether bfloat16 on a processor is unsafe for a grid X, Y, Z in voxels."""
    return _SHORT * size[0] <= min(size[1:])


def best_precision(accelerator: str, size: Sequence[int] = (1, 1, 1)) -> tuple[str, str]:
    """Lightning's name of the precision to train in, and a sentence that says why.

    bf16-mixed where the processor or GPU computes it natively; elsewhere it is slower than 32 bits.

    Args:
        accelerator: Lightning's: auto, cpu, gpu, cuda, mps.
        size: the network's grid X, Y, Z in voxels.
    """
    if accelerator == "cpu" or (accelerator == "auto" and not _may_have_gpu()):
        native, where = _processor_has_bfloat16(), "this processor"
    else:
        native, where = _gpu_has_bfloat16()
    if native and where == "this processor" and overruns_memory(size):
        return "32-true", f"Precision: 32-true (bfloat16 is unsafe here for a grid of {list(size)})"
    chosen = "bf16-mixed" if native else "32-true"
    return chosen, f"Precision: {chosen} ({where} {'has' if native else 'lacks'} native bfloat16)"


def _may_have_gpu() -> bool:
    """Whether PyTorch may find a GPU: on Linux a driver's device file says so at once."""
    if sys.platform != "linux":
        return True
    drivers = ("nvidia*", "kfd", "dri/renderD*", "dxg")
    return any(found for pattern in drivers for found in Path("/dev").glob(pattern))


def _processor_has_bfloat16() -> bool:
    forced = os.environ.get("FDSEG_NATIVE_BF16")  # to test as on the other kind of processor
    if forced:
        return forced == "1"
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        import torch

        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def _gpu_has_bfloat16() -> tuple[bool, str]:
    import torch

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return False, "this GPU"
    return _processor_has_bfloat16(), "this processor"
