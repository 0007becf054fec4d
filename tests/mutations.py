"""Ways to spoil files, for hypothesis to choose from: each knows how to be applied to a path."""

import gzip
import math
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

NUMBERS = [0, 1, -1, 2, 3, 7, 255, 256, 300, 32767, -32768, 0.5, 1e-38, 1e10, 3e38, -3e38,
           math.nan, math.inf, -math.inf]  # fmt: skip

# Fields of a NIfTI-1 header (nifti1.h): position and format.
FIELDS = {
    "sizeof_hdr": (0, "i"),
    **{f"dim[{i}]": (40 + 2 * i, "h") for i in range(8)},
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    **{f"pixdim[{i}]": (76 + 4 * i, "f") for i in range(8)},
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    **{f"quatern_{c}": (256 + 4 * i, "f") for i, c in enumerate("bcdxyz")},
    **{f"srow[{i}]": (280 + 4 * i, "f") for i in range(12)},
    "magic": (344, "4s"),
    "extension": (348, "B"),
}


def unpacked(path: Path) -> bytearray:
    """The content of a file, uncompressed where it can be."""
    raw = path.read_bytes()
    try:
        return bytearray(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError):
        return bytearray(raw)


def repack(path: Path, raw: bytes) -> None:
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


@dataclass(frozen=True)
class Flip:
    """Bits of bytes of the stored file, anywhere."""

    places: list[tuple[float, int]]

    def __call__(self, path: Path, other: Path) -> None:
        raw = bytearray(path.read_bytes())
        for place, bits in self.places:
            if raw:
                raw[int(place * len(raw))] ^= bits
        path.write_bytes(raw)


@dataclass(frozen=True)
class Cut:
    """All but the beginning."""

    kept: float

    def __call__(self, path: Path, other: Path) -> None:
        raw = path.read_bytes()
        path.write_bytes(raw[: int(self.kept * len(raw))])


@dataclass(frozen=True)
class Longer:
    """Something behind the end, inside of the compression or outside."""

    more: bytes
    inside: bool

    def __call__(self, path: Path, other: Path) -> None:
        if self.inside:
            repack(path, bytes(unpacked(path)) + self.more)
        else:
            path.write_bytes(path.read_bytes() + self.more)


@dataclass(frozen=True)
class Header:
    """Fields of the header with values that they should not have."""

    fields: list[tuple[str, float]]

    def __call__(self, path: Path, other: Path) -> None:
        raw = unpacked(path)
        for name, value in self.fields:
            place, form = FIELDS[name]
            if len(raw) < place + 4:
                return
            if form == "4s" or form == "f":
                stored = struct.pack("<f", np.float32(value))
            else:
                bits = 8 * struct.calcsize(form)
                whole = int(value) if math.isfinite(value) and abs(value) < 2**40 else -1
                stored = (whole % 2**bits).to_bytes(bits // 8, "little")
            raw[place : place + len(stored)] = stored
        repack(path, raw)


@dataclass(frozen=True)
class Bytes:
    """Bytes of the header, any of them."""

    places: list[tuple[int, int]]

    def __call__(self, path: Path, other: Path) -> None:
        raw = unpacked(path)
        for place, value in self.places:
            if place < len(raw):
                raw[place] = value
        repack(path, raw)


@dataclass(frozen=True)
class Voxels:
    """Voxels of another value, in another type."""

    places: list[tuple[int, float]]
    dtype: str

    def __call__(self, path: Path, other: Path) -> None:
        image = nib.load(path, mmap=False)
        with np.errstate(all="ignore"):
            data = np.asarray(image.dataobj).astype(self.dtype)
            for place, value in self.places:
                data.flat[place % data.size] = np.float64(value).astype(self.dtype)
        nib.save(nib.Nifti1Image(data, image.affine), path)


@dataclass(frozen=True)
class Shape:
    """Another shape: cut off, repeated, or with one more axis."""

    change: str

    def __call__(self, path: Path, other: Path) -> None:
        image = nib.load(path, mmap=False)
        data = np.asarray(image.dataobj)
        data = {
            "cut": lambda: data[:-1],
            "doubled": lambda: np.concatenate([data, data], axis=1),
            "slice": lambda: data[..., :1],
            "plane": lambda: data[..., 0],
            "four": lambda: data[..., None],
            "pair": lambda: np.stack([data, data], -1),
            "turned": lambda: np.moveaxis(data, 0, 2),
            "empty": lambda: np.zeros_like(data),
        }[self.change]()
        nib.save(nib.Nifti1Image(data, image.affine), path)


@dataclass(frozen=True)
class Affine:
    """Another place, orientation or spacing."""

    row: int
    column: int
    value: float

    def __call__(self, path: Path, other: Path) -> None:
        image = nib.load(path, mmap=False)
        affine = image.affine.copy()
        affine[self.row, self.column] += self.value
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


@dataclass(frozen=True)
class Swap:
    """Two files under each other's names."""

    def __call__(self, path: Path, other: Path) -> None:
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)


@dataclass(frozen=True)
class Replace:
    """Something else under the file's name."""

    kind: str

    def __call__(self, path: Path, other: Path) -> None:
        path.unlink()
        if self.kind == "folder":
            path.mkdir()
        elif self.kind == "loop":
            path.symlink_to(path)
        elif self.kind == "pipe":
            os.mkfifo(path)
        elif self.kind == "other format":
            nib.save(nib.MGHImage(np.ones((3, 3, 3), np.float32), np.eye(4)), path.parent / "x.mgz")
            shutil.move(path.parent / "x.mgz", path)
        elif self.kind == "nifti 2":
            nib.save(nib.Nifti2Image(np.ones((10, 13, 8), np.uint8), np.eye(4)), path)
        elif self.kind != "nothing":
            path.write_text("<html>404: not found</html>" if self.kind == "page" else "")


numbers = st.sampled_from(NUMBERS) | st.floats(width=32) | st.integers(-40000, 40000).map(float)
byte = st.integers(0, 255)
fraction = st.floats(0, 1, exclude_max=True)
some = {"min_size": 1, "max_size": 4}

#: Of any file.
SPOILS = st.one_of(
    st.builds(Flip, st.lists(st.tuples(fraction, st.integers(1, 255)), **some)),
    st.builds(Cut, fraction),
    st.builds(Longer, st.binary(min_size=1, max_size=40) | st.just(bytes(5000)), st.booleans()),
)

#: Of a NIfTI file.
MUTATIONS = SPOILS | st.one_of(
    st.builds(Header, st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), numbers), **some)),
    st.builds(Bytes, st.lists(st.tuples(st.integers(0, 360), byte), **some)),
    st.builds(
        Voxels,
        st.lists(st.tuples(st.integers(0, 2000), numbers), **some),
        st.sampled_from(["uint8", "int16", "int32", "float32", "float64"]),
    ),
    st.builds(
        Shape,
        st.sampled_from(["cut", "doubled", "slice", "plane", "four", "pair", "turned", "empty"]),
    ),
    st.builds(
        Affine,
        st.integers(0, 2),
        st.integers(0, 3),
        st.sampled_from([1e-4, 0.01, 0.5, -0.8, 3, 1e30]),
    ),
    st.builds(Swap),
    st.builds(
        Replace,
        st.sampled_from(
            ["nothing", "empty", "page", "folder", "loop", "pipe", "other format", "nifti 2"]
        ),
    ),
)
