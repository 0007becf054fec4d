"""Reading NIfTI files that may be broken, and writing label maps in the geometry of a volume."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fdseg.data.header import check_header, in_mm, open_file, times
from fdseg.data.memory import available
from fdseg.errors import FdsegError, first_line
from fdseg.runs import written_whole

_PADDING = 4096  # bytes that may follow the voxels: some programs fill the last block
_RANGE = "label values are not finite numbers from 0 to 32767"
_BROKEN = (
    *(ImageFileError, HeaderDataError, EOFError, OSError, zlib.error),
    *(ValueError, KeyError, TypeError, OverflowError),  # nibabel's, of headers that make no sense
)


@dataclass(frozen=True)
class Volume:
    """A 3-D array with its geometry.

    Attributes:
        data: voxels ``[X, Y, Z]``.
        affine: 4×4 matrix from voxel indices to mm.
    """

    data: np.ndarray
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self.data.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along each axis, in mm."""
        return tuple(float(s) for s in nib.affines.voxel_sizes(self.affine))  # type: ignore[return-value]


@dataclass(frozen=True)
class Head:
    """A 3-D NIfTI file whose header was checked, without its voxels.

    Attributes:
        image: nibabel's; its own affine is in the header's unit of length.
        affine: 4×4 matrix from voxel indices to mm.
    """

    image: nib.Nifti1Image
    affine: np.ndarray

    @property
    def header(self) -> nib.Nifti1Header:
        """All that stands in the header, in its own unit of length."""
        return self.image.header

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return self.image.shape[:3]


def open_volume(path: Path) -> Head:
    """Open a 3-D NIfTI file and check its header; no voxel is read.

    Raises:
        FdsegError: the file is missing, is no NIfTI, or its header cannot be that of a volume.
    """
    try:
        image = check_header(path).from_filename(path)
        affine, dtype = in_mm(image.affine, image.header), image.get_data_dtype()
    except FileNotFoundError:
        raise FdsegError(f"{path}: no such file.") from None
    except _BROKEN as error:
        raise FdsegError(f"{path}: not a readable NIfTI file ({first_line(error)}).") from None
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise FdsegError(f"{path}: the affine in the header is singular or not finite.")
    if dtype.kind not in "iuf":
        raise FdsegError(f"{path}: voxels are {_kind(dtype)} where one real number is expected.")
    return Head(image, affine)


def read_volume(path: Path) -> Volume:
    """Read a volume as float32.

    Raises:
        FdsegError: the file is missing, broken or cut off, or not 3-D.
    """
    return _read(path, open_volume(path))


def _read(path: Path, head: Head) -> Volume:
    image, voxels = head.image, math.prod(head.shape)
    width = image.get_data_dtype().itemsize
    needed, free = voxels * (width + 4), available()
    if needed > free:
        raise FdsegError(
            f"{path}: reading {times(head.shape)} voxels takes {needed / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are left. Crop or downsample it, or use a larger machine."
        )
    try:
        with open_file(path) as file:
            # Not mapped: a file that another program cuts off would kill this process later.
            stored = type(image).from_file_map(image.make_file_map({"image": file}), mmap=False)
            data = stored.get_fdata(dtype=np.float32, caching="unchanged")
            file.seek(image.dataobj.offset + voxels * width)  # type: ignore[attr-defined]
            beyond = len(file.read(_PADDING + 1))  # gzip compares its checksum only at the end
    except (*_BROKEN, MemoryError) as error:
        raise FdsegError(
            f"{path}: cut off or corrupt ({first_line(error)}). Copy the file again."
        ) from None
    if beyond > _PADDING:
        raise FdsegError(
            f"{path}: more voxels follow the {times(head.shape)} of its header. Copy the file "
            "again, or extract one volume from it first."
        )
    return Volume(data.reshape(head.shape), head.affine)


def read_label(path: Path) -> Volume:
    """Read a label map as int16; all values must be whole numbers, however they are stored.

    Integers that ``scl_slope`` and ``scl_inter`` scale give a whole number only to within half a
    step of the slope, floating point only to within its rounding; that much is rounded away.

    Raises:
        FdsegError: as :func:`read_volume`, or a value is not a whole number from 0 to 32767.
    """
    head = open_volume(path)
    volume = _read(path, head)
    if not np.isfinite(volume.data).all():
        raise FdsegError(f"{path}: {_RANGE}.")
    whole = np.rint(volume.data)
    _require_whole(path, volume.data, whole, head)
    if whole.min() < 0 or whole.max() > 32767:
        raise FdsegError(f"{path}: {_RANGE}.")
    return Volume(whole.astype(np.int16), volume.affine)


def _require_whole(path: Path, data: np.ndarray, whole: np.ndarray, head: Head) -> None:
    """Refuse a label map whose values are farther from whole numbers than storing them explains."""
    stored: Any = head.image.dataobj
    slope, intercept = stored.slope, stored.inter
    # A coarser slope cannot tell a fraction from a whole number.
    half_step = abs(slope) / 2 if stored.dtype.kind in "iu" and abs(slope) < 0.5 else 0.0
    far = np.abs(data - whole) > half_step
    value, nearest = data[far], whole[far]
    rounding = 2 * np.finfo(np.float32).eps * (np.abs(nearest) + abs(intercept))
    fractions = value[np.abs(value - nearest) > half_step + rounding]
    if not fractions.size:
        return
    found, otherwise = f"{fractions[0]!s}, for example", "It may have been resampled as an image;"
    if (slope, intercept) != (1, 0):
        number = (float(fractions[0]) - intercept) / slope
        found += f", stored as {number:.6g} with scl_slope {slope:.6g}, scl_inter {intercept:.6g}"
        otherwise = (
            "If the stored numbers are the labels, set scl_slope to 1 and scl_inter to 0 in the "
            "header; if it was resampled as an image,"
        )
    raise FdsegError(
        f"{path}: label values are not whole numbers ({found}). {otherwise} resample it again with "
        "nearest neighbour."
    )


def write_label(path: Path, data: np.ndarray, like: Path) -> None:
    """Write a label map ``[X, Y, Z]`` with the exact geometry and unit of the file ``like``.

    As uint8, or as uint16 where the array is that. The file appears whole or not at all.
    """
    source = open_volume(like).image
    dtype = np.uint16 if data.dtype == np.uint16 else np.uint8
    image = type(source)(data.astype(dtype), None, source.header)
    image.header.set_data_dtype(dtype)
    image.header["scl_slope"], image.header["scl_inter"] = 1, 0
    image.header["cal_min"] = image.header["cal_max"] = 0
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def grid_difference(
    first: Volume | Head,
    second: Volume | Head,
    names: tuple[str, str],
) -> str | None:
    """How the grids of two volumes differ, in words; ``None`` where voxels lie on voxels.

    A tenth of a voxel's smallest side is allowed: affines are stored and rounded in several ways.
    """
    if first.shape != second.shape:
        return f"{names[0]} has shape {times(first.shape)} but its {names[1]} {times(second.shape)}"
    corners = np.array([*np.ndindex(2, 2, 2)]) * np.subtract(second.shape, 1)
    places = [nib.affines.apply_affine(volume.affine, corners) for volume in (first, second)]
    apart = np.linalg.norm(places[0] - places[1], axis=1).max()
    own, other = (nib.affines.voxel_sizes(volume.affine) for volume in (first, second))
    if apart <= 0.1 * other.min():
        return None
    by = f"by up to {apart:.3g} mm"
    if not np.allclose(own, other, rtol=1e-3, atol=0):
        sizes = " and ".join(times(np.round(spacing, 6)) for spacing in (own, other))
        by += f", with voxels of {sizes} mm (pixdim in the unit of xyzt_units)"
    return f"{names[0]} and {names[1]} have different affines, {by}"


def _kind(dtype: np.dtype) -> str:
    return "colours" if dtype.names else f"{dtype}"
