"""From probabilities on the network's grid to a label map in the volume's own geometry."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fdseg.data.preprocess import Geometry, Preprocessing
from fdseg.errors import FdsegError


def require_finite(probabilities: Tensor, of: str) -> None:
    """Refuse probabilities of which a comparison would make background.

    Args:
        probabilities: of any shape.
        of: whose they are, for the message.

    Raises:
        FdsegError: one of them is NaN or infinite.
    """
    if not probabilities.isfinite().all():
        raise FdsegError(
            f"{of}: the network's probabilities are not finite (NaN or infinity), so they make no "
            "label map. Its training diverged, or its precision overflows: train with "
            "trainer.precision=32-true, or with a lower optimizer.lr."
        )


def binary(probabilities: Tensor, of: str = "the volume") -> Tensor:
    """One-hot masks ``[b, k, X, Y, Z]``: the likeliest structure where it exceeds one half.

    Raises:
        FdsegError: as :func:`require_finite`.
    """
    require_finite(probabilities, of)
    best = probabilities.amax(dim=1, keepdim=True)
    return (probabilities == best) & (probabilities > 0.5)


def label_map(
    probabilities: np.ndarray,
    preprocessing: Preprocessing,
    geometry: Geometry,
    values: Sequence[int],
    of: str = "the volume",
) -> np.ndarray:
    """The label map of a prediction, slab by slab, in little more memory than the map itself.

    Args:
        probabilities: of the structures on the network's grid, ``[k, *size]``.
        preprocessing: by which the volume came to that grid.
        geometry: of the volume.
        values: of the structures in label files; the last of equally likely ones is taken.
        of: whose they are, for messages.

    Returns:
        ``[X, Y, Z]`` in the native shape and orientation; uint8, or uint16 where a value needs it.

    Raises:
        FdsegError: as :func:`require_finite`.
    """
    labels = np.zeros(geometry.shape, np.min_scalar_type(max(values)))
    canonical = geometry.canonical(labels)  # a view: what is written there is written to labels
    for rows, slab in preprocessing.slabs(probabilities, geometry):
        masks = binary(torch.from_numpy(slab)[None], of)[0].numpy()
        for value, mask in zip(values, masks, strict=True):
            canonical[rows][mask] = value
    return labels
