"""The header of a NIfTI file, checked before any library acts upon what it says.

A few hundred bytes can make a reader take all memory: by a shape, by voxels that begin gigabytes
later, by an extension of any length. Here nothing is read but the header and its extensions.
"""

import gzip
import math
import struct
from collections.abc import Sequence
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from fdseg.errors import FdsegError

MAX_AXIS = 4096  # voxels; larger than any scanner's volume, small enough to refuse a forged header
MAX_VOXELS = 2**30  # 1024³, 4 GiB as float32: the largest that a network can be given as a whole
MAX_EXTENSIONS = 2**24  # bytes between header and voxels; a DICOM header kept there has some 10⁴
_UNIT = 7  # the bits of xyzt_units that name the unit of length
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # in a metre and in a micron; mm, too, where none is named
_GZIP = b"\x1f\x8b"
_EXPANSION = 1032  # bytes that a byte of a gzip file can stand for (zlib's manual)


def open_file(path: Path) -> GzipFile | BufferedReader:
    """The bytes of a ``.nii`` or ``.nii.gz`` file, uncompressed as they are read."""
    return gzip.open(path) if _is_compressed(path) else path.open("rb")


def check_header(path: Path) -> type[nib.Nifti1Image]:
    """Refuse a header that cannot be that of a 3-D volume; no voxel is read.

    Returns:
        The class by which nibabel reads this file.

    Raises:
        FdsegError: shape, spacing or scaling are impossible.
        ImageFileError, HeaderDataError, EOFError, OSError: the file is no NIfTI, or not readable.
    """
    _require_format(path)
    with open_file(path) as file:
        header = _parse(file.read(nib.Nifti2Header.sizeof_hdr))
        shape = _shape(path, header)
        _check_extensions(file, header)
    end = header["vox_offset"].item() + math.prod(shape) * header.get_data_dtype().itemsize
    if end > path.stat().st_size * (_EXPANSION if _is_compressed(path) else 1):
        raise FdsegError(
            f"{path}: cut off or corrupt (too small for the {times(shape)} voxels of its header). "
            "Copy the file again."
        )
    if math.prod(shape) > MAX_VOXELS:
        raise FdsegError(
            f"{path}: {times(shape)} are more than {MAX_VOXELS:,} voxels. Crop or downsample it."
        )
    spacing = header["pixdim"][1:4]
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise FdsegError(
            f"{path}: the spacing in the header is {times(spacing)}, where three lengths "
            "above 0 are expected. Correct it, or convert the volume again."
        )
    slope, intercept = header["scl_slope"].item(), header["scl_inter"].item()
    if slope != 0 and not (math.isfinite(slope) and math.isfinite(intercept)):  # 0: no scaling
        raise FdsegError(
            f"{path}: the scaling in the header is not finite (scl_slope {slope:g}, scl_inter "
            f"{intercept:g}). Correct it, or convert the volume again."
        )
    # By the header and not nib.load, which gives some NIfTI-2 to a parser of XML.
    return nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


def in_mm(affine: np.ndarray, header: nib.Nifti1Header) -> np.ndarray:
    """A header's affine ``[4, 4]``, from voxel indices to mm whatever its unit of length is."""
    unit = int(header["xyzt_units"]) & _UNIT  # nibabel refuses codes that nobody defined
    return affine * np.array([[_MILLIMETRES.get(unit, 1.0)]] * 3 + [[1.0]])


def times(lengths: Sequence[float] | np.ndarray) -> str:
    """Lengths as a person writes them: ``35×51×35``."""
    return "×".join(f"{n:g}" if isinstance(n, float | np.floating) else str(n) for n in lengths)


def _is_compressed(path: Path) -> bool:
    return path.name.endswith(".gz")


def _require_format(path: Path) -> None:
    """By its name, and by its first bytes: only what is NIfTI reaches a library."""
    if path.exists() and not path.is_file():
        raise ImageFileError("it is no file")  # of a pipe, a reader would wait for ever
    with path.open("rb") as file:
        start = file.read(len(_GZIP))
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ImageFileError("its name does not end in .nii or .nii.gz; convert it to .nii.gz")
    if not start:
        raise ImageFileError("the file is empty")
    if _is_compressed(path) and start != _GZIP:
        raise ImageFileError("not gzip-compressed, although its name ends in .gz")
    if start == _GZIP and not _is_compressed(path):
        raise ImageFileError("gzip-compressed, although its name does not end in .gz")


def _parse(raw: bytes) -> nib.Nifti1Header:
    """NIfTI-1 or NIfTI-2, of either byte order, as it stands in the file."""
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(raw):
            header = kind(raw[: kind.sizeof_hdr], check=False)
            if header["magic"].item() == kind.single_magic:
                return header
    raise ImageFileError("there is no NIfTI header in it")


def _shape(path: Path, header: nib.Nifti1Header) -> tuple[int, ...]:
    shape = header.get_data_shape()
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3:
        raise FdsegError(
            f"{path}: {len(shape)}-D ({times(shape)}) where a 3-D volume is expected. Extract one "
            "volume from it first."
        )
    if min(shape) < 1 or max(shape) > MAX_AXIS:
        raise FdsegError(f"{path}: impossible shape {times(shape)} in the header.")
    return shape


def _check_extensions(file: GzipFile | BufferedReader, header: nib.Nifti1Header) -> None:
    """What lies between header and voxels must be there, and be made of whole extensions."""
    offset, least = header["vox_offset"].item(), header.single_vox_offset
    if not (least <= offset <= least + MAX_EXTENSIONS and offset == int(offset)):
        raise HeaderDataError(f"its voxels are said to begin at byte {offset:g}")
    file.seek(least - 4)
    between = file.read(int(offset) - least + 4)
    if len(between) < 4:
        raise EOFError("the file ends within the header")
    place = 4
    while between[0] and len(between) - place >= 16:
        (length,) = struct.unpack_from(f"{header.endianness}i", between, place)
        if not 8 <= length <= len(between) - place:
            raise HeaderDataError(f"an extension of the header is said to have {length} bytes")
        place += length
