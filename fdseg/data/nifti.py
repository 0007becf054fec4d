"""Reading NIfTI files that may be broken, and writing label maps in the geometry of a volume."""

import gzip
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fdseg.errors import FdsegError
from fdseg.runs import written_whole

MAX_AXIS = 4096  # voxels; larger than any scanner's volume, small enough to refuse a forged header
_EXPANSION = {".nii": 1, ".gz": 1032}  # bytes a byte of the file can stand for (zlib's manual)
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
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along each axis, in mm."""
        return tuple(float(s) for s in nib.affines.voxel_sizes(self.affine))  # type: ignore[return-value]


def open_volume(path: Path) -> nib.Nifti1Image:
    """Open a 3-D NIfTI file and check its header; no voxel is read.

    Raises:
        FdsegError: the file is missing, is no NIfTI, or its header cannot be that of a volume.
    """
    try:
        if path.suffix == ".gz" and path.is_file():
            with path.open("rb") as file:
                if file.read(2) != b"\x1f\x8b":
                    raise ImageFileError("not gzip-compressed, although its name ends in .gz")
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise ImageFileError(f"{type(image).__name__} instead; convert it to .nii.gz")
        shape, affine = image.shape, image.affine
        dtype, spacing = image.get_data_dtype(), _stored_spacing(image)
    except FileNotFoundError:
        raise FdsegError(f"{path}: no such file.") from None
    except _BROKEN as error:
        raise FdsegError(f"{path}: not a readable NIfTI file ({_words(error)}).") from None
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3:
        raise FdsegError(
            f"{path}: {len(shape)}-D ({times(shape)}) where a 3-D volume is expected. Extract one "
            "volume from it first."
        )
    if min(shape) < 1 or max(shape) > MAX_AXIS:
        raise FdsegError(f"{path}: impossible shape {times(shape)} in the header.")
    most = path.stat().st_size * _EXPANSION.get(path.suffix, math.inf)
    if math.prod(shape) * dtype.itemsize > most:
        raise FdsegError(
            f"{path}: cut off or corrupt (too small for the {times(shape)} voxels of its header). "
            "Copy the file again."
        )
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise FdsegError(f"{path}: the affine in the header is singular or not finite.")
    if not spacing.all() and not image.header["sform_code"]:
        raise FdsegError(f"{path}: the spacing in the header is 0, so nothing is known in mm.")
    if dtype.kind not in "iuf":
        raise FdsegError(f"{path}: voxels are {_kind(dtype)} where one real number is expected.")
    return image


def read_volume(path: Path) -> Volume:
    """Read a volume as float32.

    Raises:
        FdsegError: the file is missing, broken or cut off, or not 3-D.
    """
    image = open_volume(path)
    try:
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (*_BROKEN, MemoryError) as error:
        raise FdsegError(
            f"{path}: cut off or corrupt ({_words(error)}). Copy the file again."
        ) from None
    return Volume(data.reshape(image.shape[:3]), image.affine)


def read_label(path: Path) -> Volume:
    """Read a label map as int16; values stored as floating point must be whole numbers.

    Raises:
        FdsegError: as :func:`read_volume`, or a value is not a whole number from 0 to 32767.
    """
    volume = read_volume(path)
    data = volume.data
    if not np.isfinite(data).all() or (data < 0).any() or (data > 32767).any():
        raise FdsegError(f"{path}: label values are not finite numbers from 0 to 32767.")
    whole = data.astype(np.int16)
    if (whole != data).any():
        value = data[whole != data].flat[0]
        raise FdsegError(
            f"{path}: label values are not whole numbers ({value:g}, for example). It may have "
            "been resampled as an image; resample it again with nearest neighbour."
        )
    return Volume(whole, volume.affine)


def write_label(path: Path, data: np.ndarray, like: Path) -> None:
    """Write a label map ``[X, Y, Z]`` with the exact geometry of the file ``like``.

    As uint8, or as uint16 where the array is that. The file appears whole or not at all.
    """
    source = open_volume(like)
    dtype = np.uint16 if data.dtype == np.uint16 else np.uint8
    image = type(source)(data.astype(dtype), None, source.header)
    image.header.set_data_dtype(dtype)
    image.header["scl_slope"], image.header["scl_inter"] = 1, 0
    image.header["cal_min"] = image.header["cal_max"] = 0
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def _stored_spacing(image: nib.Nifti1Image) -> np.ndarray:
    """The spacing as the file has it; nibabel's own header makes 1 mm of a 0."""
    with image.file_map["image"].get_prepare_fileobj("rb") as file:
        return image.header_class.from_fileobj(file, check=False)["pixdim"][1:4]


def _kind(dtype: np.dtype) -> str:
    return "colours" if dtype.names else f"{dtype}"


def times(shape: Sequence[int]) -> str:
    """A shape as a person writes it: ``35×51×35``."""
    return "×".join(map(str, shape))


def _words(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
