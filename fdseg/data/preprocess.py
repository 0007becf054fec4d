"""From a volume in its own geometry to the network's grid, and back."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
import torchio as tio
from scipy import ndimage

from fdseg.data.nifti import Volume
from fdseg.errors import FdsegError


@dataclass(frozen=True)
class Geometry:
    """What is needed to bring a prediction back: plain numbers, so that it can be stored.

    Attributes:
        shape: voxels of the native volume.
        spacing: mm per voxel of the native volume.
        orientation: nibabel's orientation, per native axis its canonical axis and direction.
        scale: network voxels per canonical voxel, per canonical axis.
        offset: network index of the canonical voxel 0, per canonical axis.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: tuple[tuple[int, int], ...]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]

    def canonical(self, native: np.ndarray) -> np.ndarray:
        """A native array ``[X, Y, Z]`` with its axes turned to canonical (RAS) orientation."""
        return nib.orientations.apply_orientation(native, np.array(self.orientation))

    def native(self, canonical: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`canonical`."""
        identity = [[0, 1], [1, 1], [2, 1]]
        back = nib.orientations.ornt_transform(identity, np.array(self.orientation))
        return nib.orientations.apply_orientation(canonical, back)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Geometry":
        """The inverse of :meth:`to_dict`, also after a passage through JSON."""
        orientation = tuple(tuple(pair) for pair in values["orientation"])
        rest = {k: tuple(v) for k, v in values.items() if k != "orientation"}
        return cls(orientation=orientation, **rest)


@dataclass(frozen=True)
class Preprocessing:
    """Canonical orientation, min–max to [0, 1], and reshaping to the network's grid, by TorchIO.

    Args:
        size: the network's grid X, Y, Z in voxels.
        reshape: ``crop_or_pad`` keeps the spacing and the volume's centre; ``resize`` fits the
            whole field of view into the grid (linear; labels by nearest neighbour).
    """

    size: tuple[int, int, int]
    reshape: Literal["crop_or_pad", "resize"]

    def __post_init__(self) -> None:
        if self.reshape not in ("crop_or_pad", "resize"):
            raise FdsegError(f"data.reshape={self.reshape}: expected crop_or_pad or resize.")

    def __call__(
        self, image: Volume, label: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
        """Preprocess one case.

        Args:
            image: the native volume.
            label: its label map ``[X, Y, Z]``, uint8, or ``None``.

        Returns:
            The image (float32 in [0, 1]) and the label (uint8) on the network's grid, and the
            geometry by which :meth:`restore` brings predictions back.
        """
        geometry = self._geometry(image)
        affine = _axis_aligned(geometry)
        items: dict[str, tio.Image] = {
            "image": tio.ScalarImage(tensor=torch.from_numpy(image.data)[None], affine=affine)
        }
        if label is not None:
            items["label"] = tio.LabelMap(tensor=torch.from_numpy(label)[None], affine=affine)
        subject = tio.Subject(items)
        subject = tio.RescaleIntensity(out_min_max=(0, 1))(tio.ToCanonical()(subject))
        subject = self._reshape(subject.image.affine, geometry)(subject)
        images = subject.get_images_dict(intensity_only=False)
        arrays = [images[key].data[0].contiguous().numpy() for key in items]
        return arrays[0], arrays[1] if label is not None else None, geometry

    def restore(
        self, channels: np.ndarray, geometry: Geometry, *, canonical: bool = False
    ) -> np.ndarray:
        """Bring channels ``[k, *size]`` (probabilities, or one-hot labels) to the native grid.

        Linear interpolation; where the network's grid does not reach, the result is 0.

        Returns:
            ``[k, X, Y, Z]``, float32, in the native shape and orientation, or in the canonical one.
        """
        axes = np.argsort([axis for axis, _ in geometry.orientation])
        shape = tuple(geometry.shape[axis] for axis in axes)
        restored = []
        for channel in channels.astype(np.float32, copy=False):
            if self.reshape == "crop_or_pad":
                grid = _shifted(channel, shape, [int(o) for o in geometry.offset])
            else:
                grid = ndimage.affine_transform(
                    channel, geometry.scale, geometry.offset, shape, order=1, mode="nearest"
                )
            restored.append(grid if canonical else geometry.native(grid))
        return np.stack(restored)

    def _geometry(self, image: Volume) -> Geometry:
        orientation = nib.io_orientation(image.affine).astype(int)
        shape = np.array(image.data.shape)[np.argsort(orientation[:, 0])]
        size = np.array(self.size)
        if self.reshape == "crop_or_pad":
            # TorchIO pads ⌈d/2⌉ voxels in front and crops ⌈d/2⌉ there: the centre stays.
            difference = size - shape
            offset = np.sign(difference) * -(-abs(difference) // 2)
            scale = np.ones(3)
        else:
            scale = size / shape
            offset = scale / 2 - 0.5  # the edges of both fields of view coincide
        return Geometry(
            shape=tuple(int(n) for n in image.data.shape),  # type: ignore[arg-type]
            spacing=image.spacing,
            orientation=tuple((int(axis), int(flip)) for axis, flip in orientation),
            scale=tuple(float(s) for s in scale),  # type: ignore[arg-type]
            offset=tuple(float(o) for o in offset),  # type: ignore[arg-type]
        )

    def _reshape(self, affine: np.ndarray, geometry: Geometry) -> tio.Transform:
        if self.reshape == "crop_or_pad":
            return tio.CropOrPad(self.size)
        to_canonical = np.diag([*(1 / np.array(geometry.scale)), 1])
        to_canonical[:3, 3] = -np.array(geometry.offset) / np.array(geometry.scale)
        return tio.Resample((self.size, affine @ to_canonical))


def _axis_aligned(geometry: Geometry) -> np.ndarray:
    """The affine without its rotation and shear: the grid's own axes, which is all that matters."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, ((to, flip), spacing) in enumerate(
        zip(geometry.orientation, geometry.spacing, strict=True)
    ):
        affine[to, axis] = flip * spacing
    return affine


def _shifted(channel: np.ndarray, shape: tuple[int, ...], offset: list[int]) -> np.ndarray:
    """``channel[i + offset]`` for every i of ``shape``, 0 outside."""
    result = np.zeros(shape, channel.dtype)
    source, target = [], []
    for have, want, o in zip(channel.shape, shape, offset, strict=True):
        start, stop = max(0, -o), min(want, have - o)
        target.append(slice(start, stop))
        source.append(slice(start + o, stop + o))
    result[tuple(target)] = channel[tuple(source)]
    return result
