"""A run's network as a file that needs no fdseg, and in plain words what belongs around it."""

import io
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fdseg
from fdseg.errors import FdsegError, first_line
from fdseg.runs import whole, written_whole
from fdseg.trained import TrainedRun

INPUT, OUTPUT = "image", "probabilities"


class _Probabilities(nn.Module):
    """A network with the sigmoid that turns its logits into probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """``image[1, 1, X, Y, Z]`` to ``[1, structures, X, Y, Z]``."""
        return self.network(image).sigmoid()


def write_onnx(run: TrainedRun, path: Path) -> None:
    """Write the network, with its sigmoid, for ONNX runtimes.

    Raises:
        FdsegError: onnx is not installed, or the network has an operation that ONNX lacks.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter is made with it)
    except ImportError:
        raise FdsegError(
            "format=onnx needs two more packages: pip install onnx onnxscript. format=torch needs "
            "none."
        ) from None
    for noisy in ("torch.onnx", "onnxscript", "onnx_ir"):  # what a user cannot act upon
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        program = torch.onnx.export(
            *_traced(run),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    except torch.onnx.OnnxExporterError as error:
        reason = first_line(error.__cause__ or error)
        raise FdsegError(
            f"{run.folder}: ONNX cannot express this network ({reason}). Use format=torch."
        ) from None
    with written_whole(path) as partial:
        program.save(partial)  # type: ignore[union-attr]


def write_torch(run: TrainedRun, path: Path) -> None:
    """Write the network, with its sigmoid, as an exported program (``torch.export.load``)."""
    program = torch.export.export(*_traced(run))
    content = io.BytesIO()  # an error of a file would end the process in torch's C++
    torch.export.save(program, content)
    with whole(path) as file:
        file.write(content.getbuffer())


def description(run: TrainedRun, file: str) -> dict[str, Any]:
    """All that somebody needs to use an exported network without fdseg, plain numbers and words.

    Args:
        run: the network's.
        file: name of the exported network.
    """
    size, structures = list(run.preprocessing.size), list(run.structures.items())
    return {
        "made_by": f"fdseg {fdseg.__version__}",
        "task": run.task,
        "trained_on": "a synthetic phantom" if run.is_phantom else "real volumes",
        "run": f"{run.folder.name}, {run.checkpoint}",
        "network": {
            "file": file,
            "input": {"name": INPUT, "dtype": "float32", "shape": [1, 1, *size]},
            "output": {"name": OUTPUT, "dtype": "float32", "shape": [1, len(structures), *size]},
        },
        "structures": [
            {"channel": channel, "name": name, "value": value}
            for channel, (name, value) in enumerate(structures)
        ],
        "preprocessing": [
            {
                "step": "orientation",
                "axes": "RAS",
                "how": "Permute and flip the axes of the volume so that they point to right, "
                "anterior and superior as closely as its affine allows; no interpolation. "
                "(nibabel.as_closest_canonical)",
            },
            {
                "step": "rescale",
                "range": [0, 1],
                "how": "(v - min) / (max - min) in float32, over the whole volume.",
            },
            {**_TO_GRID[run.preprocessing.reshape], "size": size},
        ],
        "postprocessing": [
            _FROM_GRID[run.preprocessing.reshape],
            {
                "step": "label",
                "threshold": 0.5,
                "how": "A voxel gets the value of its most probable structure where that "
                "probability is greater than the threshold, else 0. Of equally probable "
                "structures it is the last.",
            },
            {
                "step": "orientation",
                "how": "Undo the flips and the permutation of the axes; write with the affine of "
                "the volume.",
            },
        ],
    }


_TO_GRID: dict[str, dict[str, Any]] = {
    "crop_or_pad": {
        "step": "crop_or_pad",
        "fill": 0,
        "how": "Along each axis of n voxels, with d = size - n and front = ceil(|d| / 2): where "
        "d > 0, pad front voxels of the fill value before and d - front behind; where d < 0, cut "
        "front voxels off before and |d| - front behind.",
    },
    "resize": {
        "step": "resize",
        "interpolation": "linear",
        "how": "The fields of view coincide: along an axis of n voxels, voxel j of the grid lies "
        "at (j + 0.5) * n / size - 0.5 in the volume; interpolate linearly between the two voxels "
        "beside it, along all three axes; positions before the first or behind the last voxel get "
        "that voxel's value.",
    },
}

_FROM_GRID: dict[str, dict[str, Any]] = {
    "crop_or_pad": {
        "step": "restore",
        "outside": 0,
        "how": "Undo crop_or_pad for each channel: cut off what was padded, and fill what was cut "
        "off with the outside value.",
    },
    "resize": {
        "step": "restore",
        "interpolation": "linear",
        "how": "Undo resize for each channel: along an axis of n voxels, voxel i of the volume "
        "lies at (i + 0.5) * size / n - 0.5 in the grid; interpolate linearly; positions before "
        "the first or behind the last voxel get that voxel's value.",
    },
}


def _traced(run: TrainedRun) -> tuple[nn.Module, tuple[Tensor]]:
    """What PyTorch's exporters take: a module, and an example of its input."""
    return _Probabilities(run.network).eval(), (torch.zeros(1, 1, *run.preprocessing.size),)
