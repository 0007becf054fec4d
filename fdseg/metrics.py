"""How well a predicted structure agrees with its label: Dice, HD95 and the normalised surface Dice.

Arrays in, numbers out: a mask is a boolean array (X, Y, Z), a spacing the three sides of its voxels
in mm, a distance is in mm. One structure at a time; a mask without a voxel never gives NaN.

    masks ─ surface_distances ─ SurfaceDistances ─┬─ .hd95(definition)
                                                  └─ .fraction_within(tolerance_mm)

`score` does all of it at once. `MeanDice` and `MeanHD95` gather it over batches of tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from torch import Tensor
from torchmetrics import Metric

Definition = Literal["pooled", "max_of_directed"]
Empty = Literal["diagonal", "inf"]
Neighbours = Literal[6, 26]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance from every boundary voxel of a mask to the nearest one of the other, in mm.

    Both are of shape (voxels of that surface,). An empty mask has no boundary voxels; to it, every
    distance is infinite.
    """

    prediction_to_label: NDArray[np.float64]
    label_to_prediction: NDArray[np.float64]

    def hd95(self, definition: Definition = "pooled") -> float:
        """The 95th percentile of the distances in mm; 0 without any, infinite if one mask is empty.

        `pooled` takes it over the distances of both directions together (as the PyPI package
        seg-metrics does, the paper's, there with surfaces of 26 neighbours); `max_of_directed`
        takes it in each direction and returns the larger (MONAI; Taha and Hanbury 2015). One far
        false positive may be less than 5 % of all distances and yet more than 5 % of the
        prediction's: the two then differ widely.
        """
        _check_option("definition", definition, Definition)
        directed = self.prediction_to_label, self.label_to_prediction
        if not all(distances.size for distances in directed):
            return np.inf if any(distances.size for distances in directed) else 0.0
        if definition == "pooled":
            return float(np.percentile(np.concatenate(directed), 95))
        return float(max(np.percentile(distances, 95) for distances in directed))

    def fraction_within(self, tolerance_mm: float) -> float:
        """The share of both surfaces' voxels at most `tolerance_mm` from the other; 1 without any.

        Raises ValueError for a tolerance that is negative or not a number.
        """
        if not tolerance_mm >= 0:
            raise ValueError(f"tolerance_mm is {tolerance_mm}; give a distance in mm, 0 or more")
        distances = np.concatenate((self.prediction_to_label, self.label_to_prediction))
        # Three voxels of 1.1 mm are 3.3 mm, but 3.3000000000000003 in floating point.
        return float(np.mean(distances <= tolerance_mm * (1 + 1e-9))) if distances.size else 1.0


@dataclass(frozen=True)
class Scores:
    """What `score` found for one structure of one subject."""

    dice: float
    hd95_mm: float
    nsd: float
    prediction_mm3: float
    label_mm3: float
    missed: bool  # the label has the structure, the prediction has not one voxel of it


def dice(prediction: ArrayLike, label: ArrayLike) -> float:
    """Twice the overlap over the sum of the two sizes; 1 if both masks are empty, 0 if one is.

    Raises ValueError unless both are boolean, of the same shape (X, Y, Z).
    """
    prediction, label = _check_masks(prediction, label)
    return _dice(prediction, label, _voxels(prediction), _voxels(label))


def surface_distances(
    prediction: ArrayLike,
    label: ArrayLike,
    spacing_mm: Sequence[float],
    neighbours: Neighbours = 6,
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks (X, Y, Z), exactly, in mm.

    A mask's surface is its voxels with a background voxel among their 6 neighbours (the mask less
    its erosion, as in MONAI and MedPy), or among all 26 (a thicker surface: seg-metrics, unless
    told otherwise, away from the volume's border). Outside of the volume is background. Distances
    run between the centres of voxels.

    Raises ValueError unless both masks are boolean and of one shape, and the spacing three
    positive numbers.
    """
    prediction, label = _check_masks(prediction, label)
    spacing = _check_spacing(spacing_mm)
    _check_option("neighbours", neighbours, Neighbours)
    of_prediction = _surface_mm(prediction, spacing, neighbours)
    of_label = _surface_mm(label, spacing, neighbours)
    return SurfaceDistances(_nearest(of_prediction, of_label), _nearest(of_label, of_prediction))


def hd95(
    prediction: ArrayLike,
    label: ArrayLike,
    spacing_mm: Sequence[float],
    definition: Definition = "pooled",
    empty: Empty = "diagonal",
    neighbours: Neighbours = 6,
) -> float:
    """The 95th percentile of the Hausdorff distance in mm, see `SurfaceDistances.hd95`.

    Two empty masks are 0 mm apart. If only one is empty, `empty` says what to return: the
    `diagonal` of the whole volume, from corner to corner, or `inf`. Raises as `surface_distances`.
    """
    distances = surface_distances(prediction, label, spacing_mm, neighbours)
    return _finite(distances.hd95(definition), empty, np.shape(label), spacing_mm)


def normalised_surface_dice(
    prediction: ArrayLike,
    label: ArrayLike,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    neighbours: Neighbours = 6,
) -> float:
    """The share of both surfaces that lies within `tolerance_mm` of the other.

    A surface is counted in voxels, as MONAI does by default, not in areas. 1 if both masks are
    empty, 0 if one is. Raises as `surface_distances`, and for a negative tolerance.
    """
    distances = surface_distances(prediction, label, spacing_mm, neighbours)
    return distances.fraction_within(tolerance_mm)


def score(
    prediction: ArrayLike,
    label: ArrayLike,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float,
    definition: Definition = "pooled",
    empty: Empty = "diagonal",
    neighbours: Neighbours = 6,
) -> Scores:
    """Everything about one structure, its surface distances computed once.

    Equals `dice`, `hd95` and `normalised_surface_dice` of the same masks, and raises as they do.
    """
    _check_option("definition", definition, Definition)
    options: Any = {"tolerance_mm": tolerance_mm, "empty": empty, "neighbours": neighbours}
    return score_by_definition(prediction, label, spacing_mm, **options)[definition]


def score_by_definition(
    prediction: ArrayLike,
    label: ArrayLike,
    spacing_mm: Sequence[float],
    *,
    tolerance_mm: float,
    empty: Empty = "diagonal",
    neighbours: Neighbours = 6,
) -> dict[Definition, Scores]:
    """What `score` finds with each definition of HD95, its surface distances computed once."""
    prediction, label = _check_masks(prediction, label)
    distances = surface_distances(prediction, label, spacing_mm, neighbours)
    voxel_mm3 = float(np.prod(_check_spacing(spacing_mm)))
    predicted, labelled = _voxels(prediction), _voxels(label)
    same: Any = {
        "dice": _dice(prediction, label, predicted, labelled),
        "nsd": distances.fraction_within(tolerance_mm),
        "prediction_mm3": predicted * voxel_mm3,
        "label_mm3": labelled * voxel_mm3,
        "missed": labelled > 0 and predicted == 0,
    }
    found = {d: distances.hd95(d) for d in get_args(Definition)}
    return {
        definition: Scores(hd95_mm=_finite(mm, empty, label.shape, spacing_mm), **same)
        for definition, mm in found.items()
    }


def volume_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """From corner to opposite corner of a volume of `shape` voxels: no distance in it is larger."""
    return float(np.linalg.norm(np.asarray(shape) * _check_spacing(spacing_mm)))


class _MeanOverSubjectsAndStructures(Metric):
    """Sums a score per structure over subjects, so that processes and batches simply add up.

    `update` takes masks (B, K, X, Y, Z), boolean, or label maps (B, X, Y, Z) of integers in which k
    is structure k of 1 to K and anything else background. `compute` returns the mean over subjects
    and structures, or with `per_structure` the K means over subjects.
    """

    full_state_update = False
    total: Tensor
    subjects: Tensor

    def __init__(self, structures: int, per_structure: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.structures = structures
        self.per_structure = per_structure
        self.add_state("total", torch.zeros(structures), dist_reduce_fx="sum")
        self.add_state("subjects", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean, or one mean per structure."""
        means = self.total / self.subjects
        return means if self.per_structure else means.mean()

    def _masks(self, prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Both as masks (B, K, X, Y, Z)."""
        masks = self._one_hot("prediction", prediction), self._one_hot("label", label)
        if masks[0].shape != masks[1].shape:
            raise ValueError(
                f"prediction has shape {_by(prediction.shape)} but label {_by(label.shape)}; "
                "score one only against the other"
            )
        return masks

    def _one_hot(self, name: str, volume: Tensor) -> Tensor:
        if volume.dtype == torch.bool and volume.ndim == 5 and volume.shape[1] == self.structures:
            return volume
        if volume.dtype == torch.bool or volume.is_floating_point() or volume.ndim != 4:
            raise ValueError(
                f"{name} is {volume.dtype} of shape {_by(volume.shape)}; give boolean masks "
                f"B×{self.structures}×X×Y×Z or label maps B×X×Y×Z of integers"
            )
        return torch.stack([volume == k for k in range(1, self.structures + 1)], dim=1)


class MeanDice(_MeanOverSubjectsAndStructures):
    """The mean of `dice` over subjects and structures, on the tensors' own device.

    >>> metric = MeanDice(structures=2)
    >>> label = torch.tensor([0, 1, 1, 2]).reshape(1, 4, 1, 1)
    >>> metric.update(label, label)
    >>> metric.compute()
    tensor(1.)
    """

    is_differentiable = False
    higher_is_better = True

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch of masks (B, K, X, Y, Z) or of label maps (B, X, Y, Z)."""
        prediction, label = self._masks(prediction, label)
        overlap = (prediction & label).sum(dim=(2, 3, 4))
        size = prediction.sum(dim=(2, 3, 4)) + label.sum(dim=(2, 3, 4))
        self.total += torch.where(size > 0, 2 * overlap / size, 1.0).sum(dim=0)
        self.subjects += len(label)


class MeanHD95(_MeanOverSubjectsAndStructures):
    """The mean of `hd95` over subjects and structures in mm, computed on the CPU."""

    is_differentiable = False
    higher_is_better = False

    def __init__(
        self,
        structures: int,
        definition: Definition = "pooled",
        empty: Empty = "diagonal",
        neighbours: Neighbours = 6,
        per_structure: bool = False,
        **kwargs: Any,
    ) -> None:
        """Take the options of `hd95`, and whether to keep the structures apart."""
        super().__init__(structures, per_structure, **kwargs)
        self.hd95 = partial(hd95, definition=definition, empty=empty, neighbours=neighbours)

    def update(
        self, prediction: Tensor, label: Tensor, spacing_mm: Tensor | Sequence[float]
    ) -> None:
        """Add a batch of masks (B, K, X, Y, Z) or of label maps (B, X, Y, Z).

        The spacing is that of the whole batch, (3,), or one per subject, (B, 3).
        """
        prediction, label = self._masks(prediction, label)
        batch = prediction.cpu().numpy(), label.cpu().numpy()
        spacings = torch.as_tensor(spacing_mm, dtype=torch.float64).expand(len(label), 3).tolist()
        for predicted, labelled, spacing in zip(*batch, spacings, strict=True):
            pairs = zip(predicted, labelled, strict=True)
            each = [self.hd95(one, other, spacing) for one, other in pairs]
            self.total += torch.tensor(each).to(self.total)
        self.subjects += len(label)


def _dice(prediction: Mask, label: Mask, predicted: int, labelled: int) -> float:
    if predicted + labelled == 0:
        return 1.0
    box = _bounding_box(label)
    overlap = _voxels(prediction[box] & label[box]) if box else 0
    return 2 * overlap / (predicted + labelled)


def _voxels(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _finite(distance_mm: float, empty: Empty, shape: Sequence[int], spacing: Any) -> float:
    """Put what `empty` says in the place of the infinite distance of an empty mask."""
    _check_option("empty", empty, Empty)
    missing = np.isinf(distance_mm) and empty == "diagonal"
    return volume_diagonal_mm(shape, spacing) if missing else distance_mm


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    box = [slice(None)] * mask.ndim
    # The axis with the longest stride first: its slices are contiguous, and most hold nothing.
    for axis in np.argsort(np.abs(mask.strides))[::-1]:
        others = tuple(i for i in range(mask.ndim) if i != axis)
        occupied = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if occupied.size == 0:
            return None
        box[axis] = slice(occupied[0], occupied[-1] + 1)
    return tuple(box)


def _surface_mm(mask: Mask, spacing: NDArray[np.float64], neighbours: int) -> NDArray[np.float64]:
    """The positions (voxels, 3) of the mask's boundary voxels."""
    box = _bounding_box(mask)
    if box is None:
        return np.empty((0, 3))
    mask = np.pad(mask[box], 1)
    inside = mask.copy()
    for axis in range(3):
        # The cube of 27 voxels is an axis after an axis; the cross of 7 is all of them at once.
        source = np.moveaxis(inside.copy() if neighbours == 26 else mask, axis, 0)
        eroded = np.moveaxis(inside, axis, 0)
        eroded[1:] &= source[:-1]
        eroded[:-1] &= source[1:]
    return (np.argwhere(mask & ~inside) + [side.start - 1 for side in box]) * spacing


def _nearest(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    # Surfaces are few voxels, so a tree beats a distance transform of the volume that they span,
    # the more so the farther apart they are. On a grid, with its many equal coordinates, splitting
    # cells in the middle is much faster than at the median in the worst cases (concentric shells).
    if len(targets) == 0:
        return np.full(len(points), np.inf)
    tree = KDTree(targets, leafsize=32, balanced_tree=False, compact_nodes=False)
    return tree.query(points)[0]


def _check_masks(prediction: ArrayLike, label: ArrayLike) -> tuple[Mask, Mask]:
    prediction, label = np.asarray(prediction), np.asarray(label)
    for name, mask in (("prediction", prediction), ("label", label)):
        if mask.dtype != bool or mask.ndim != 3:
            raise ValueError(
                f"{name} is {mask.dtype} of shape {_by(mask.shape)}; give one structure's boolean "
                "mask X×Y×Z, such as volume == 1"
            )
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction has shape {_by(prediction.shape)} but label {_by(label.shape)}; "
            "map the prediction back to the label's grid first"
        )
    return prediction, label


def _check_spacing(spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (3,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise ValueError(f"spacing_mm is {spacing_mm}; give the voxel's three sides in mm, all > 0")
    return spacing


def _check_option(name: str, value: object, options: Any) -> None:
    if value not in get_args(options):
        known = " or ".join(map(repr, get_args(options)))
        raise ValueError(f"{name} is {value!r}; choose {known}")


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "()"
