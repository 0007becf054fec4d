"""From a volume in its own geometry to the network's grid, and back."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
import torchio as tio
from scipy import ndimage

from fdseg.data.header import MAX_AXIS, MAX_VOXELS
from fdseg.data.nifti import Volume
from fdseg.errors import FdsegError
from fdseg.values import require_value

_SLAB = 2**22  # native voxels brought back at a time: 16 MB for each channel


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

    @property
    def canonical_spacing(self) -> list[float]:
        """mm per voxel along the canonical axes."""
        return [self.spacing[i] for i in np.argsort([axis for axis, _ in self.orientation])]

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

    Raises:
        FdsegError: the size is no grid of three axes, or too large; or ``reshape`` is neither.
    """

    size: tuple[int, int, int]
    reshape: Literal["crop_or_pad", "resize"]

    def __post_init__(self) -> None:
        size = self.size
        if (
            len(size) != 3
            or not all(type(n) is int and 1 <= n <= MAX_AXIS for n in size)
            or math.prod(size) > MAX_VOXELS
        ):
            raise FdsegError(
                f"data.size={list(size)} is no grid: expected three whole numbers from 1 to "
                f"{MAX_AXIS}, and {MAX_VOXELS:,} voxels at the most."
            )
        require_value("data.reshape", self.reshape)

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
        self,
        channels: np.ndarray,
        geometry: Geometry,
        *,
        canonical: bool = False,
        dtype: type[np.floating] = np.float32,
    ) -> np.ndarray:
        """Bring channels ``[k, *size]`` (probabilities, or one-hot labels) to the native grid.

        Linear interpolation; where the network's grid does not reach, the result is 0.

        Returns:
            ``[k, X, Y, Z]`` in the native shape and orientation, or in the canonical one.
        """
        native = np.zeros((len(channels), *geometry.shape), dtype)
        views = [geometry.canonical(channel) for channel in native]
        for rows, slab in self.slabs(channels, geometry):
            for view, part in zip(views, slab, strict=True):
                view[rows] = part
        return np.stack(views) if canonical else native

    def slabs(self, channels: np.ndarray, geometry: Geometry) -> Iterator[tuple[slice, np.ndarray]]:
        """Bring channels ``[k, *size]`` to the native voxels, a part of the volume at a time.

        Yields:
            Rows along the first canonical axis, and their voxels ``[k, rows, Y, Z]``, float32, in
            canonical orientation.
        """
        axes = np.argsort([axis for axis, _ in geometry.orientation])
        length, *plane = (geometry.shape[axis] for axis in axes)
        channels = channels.astype(np.float32, copy=False)
        thickness = max(1, _SLAB // (plane[0] * plane[1]))
        for start in range(0, length, thickness):
            rows = slice(start, min(start + thickness, length))
            shape = (rows.stop - start, *plane)
            slab = np.empty((len(channels), *shape), np.float32)
            for part, channel in zip(slab, channels, strict=True):
                part[:] = self._slab(channel, geometry, start, shape)
            yield rows, slab

    def _slab(
        self, channel: np.ndarray, geometry: Geometry, start: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        (scale, *scales), (offset, *offsets) = geometry.scale, geometry.offset
        if self.reshape == "crop_or_pad":
            return _shifted(channel, shape, [start + int(offset), *map(int, offsets)])
        # The first axis by itself, from whole row numbers: a slab is the same bits as in the whole.
        rows = np.arange(start, start + shape[0])
        position = np.clip(scale * rows + offset, 0, len(channel) - 1)
        below = np.minimum(position.astype(int), max(len(channel) - 2, 0))
        weight = (position - below).astype(np.float32)[:, None, None]
        above = np.minimum(below + 1, len(channel) - 1)
        planes = channel[below] * (1 - weight) + channel[above] * weight
        return ndimage.affine_transform(
            planes, (1, *scales), (0, *offsets), shape, order=1, mode="nearest"
        )

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


def unusable(voxels: np.ndarray) -> tuple[str, str] | None:
    """What keeps a volume ``[X, Y, Z]`` from being scaled to [0, 1], if anything, and a remedy."""
    finite = np.isfinite(voxels)
    if not finite.all():
        problem = f"{(~finite).sum():,} voxels are NaN or infinite"
        return problem, "Replace them by the background's value"
    least, most = float(voxels.min()), float(voxels.max())
    if least == most:
        return f"the image is constant, {least:g} in every voxel", "Restore the file"
    if most - least > float(np.finfo(np.float32).max):
        return f"the voxels lie between {least:g} and {most:g}", "Restore the file"
    return None


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
        start = max(0, -o)
        stop = max(start, min(want, have - o))  # nothing, where a slab lies beside the grid
        target.append(slice(start, stop))
        source.append(slice(start + o, stop + o))
    result[tuple(target)] = channel[tuple(source)]
    return result
