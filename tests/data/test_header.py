"""Malicious files: whatever they say of themselves, they get neither memory nor time."""

import gzip
import math
import os
import struct
import tracemalloc
import zlib
from contextlib import contextmanager
from functools import cache
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest

from fdseg.data import nifti
from fdseg.data.header import MAX_EXTENSIONS
from fdseg.data.nifti import open_volume, read_label, read_volume
from fdseg.errors import FdsegError

SHAPE = (5, 6, 7)
VOXELS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
MEBIBYTE = 2**20

# Where a NIfTI-1 header keeps what (nifti1.h).
DIM, DATATYPE, OFFSET, SLOPE, INTERCEPT, MAGIC, EXTENDED = 40, 70, 108, 112, 116, 344, 348


def content(*changes, voxels=VOXELS):
    """An uncompressed file with changes to its header: a position, a format, and values."""
    raw = bytearray(nib.Nifti1Image(voxels, np.eye(4)).to_bytes())
    for position, form, *values in changes:
        struct.pack_into(f"<{form}", raw, position, *values)
    return bytes(raw)


@cache
def compressed_zeros():
    """64 MiB of them."""
    block = zlib.compressobj(9, zlib.DEFLATED, 31)
    return block.compress(bytes(64 * MEBIBYTE)) + block.flush()


def bomb(path, start, gibibytes=4):
    """A gzip file of `start` and then zeros: a thousandth of what it unpacks to."""
    path.write_bytes(gzip.compress(start) + compressed_zeros() * (16 * gibibytes))
    return path


@contextmanager
def little(mebibytes=4, seconds=2):
    """What happens inside takes little memory and time."""
    tracemalloc.start()
    start = perf_counter()
    try:
        yield
        taken, peak = perf_counter() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < seconds
    assert peak < mebibytes * MEBIBYTE


def test_a_million_voxels_an_axis_cost_nothing_though_the_file_unpacks_to_gigabytes(tmp_path):
    header = nib.Nifti2Image(VOXELS, np.eye(4)).header
    header["dim"][1:4], header["vox_offset"] = 10**6, 544
    path = bomb(tmp_path / "x.nii.gz", header.binaryblock + bytes(4))
    with little(), pytest.raises(FdsegError, match=r"x.nii.gz: impossible shape 1000000×1000000×"):
        read_volume(path)


def test_a_bomb_whose_header_tells_the_truth_costs_nothing(tmp_path):
    shape = (2048, 2048, 2048)  # one byte each, and all of them are in the file
    start = content((DIM, "4h", 3, *shape), (DATATYPE, "2h", 2, 8))[:352]
    path = bomb(tmp_path / "x.nii.gz", start, 8)
    with (
        little(),
        pytest.raises(FdsegError, match=r"x.nii.gz: 2048×2048×2048 are more than 1,073,741,824"),
    ):
        read_volume(path)


def test_a_volume_for_which_no_memory_is_left_is_refused_before_it_is_read(tmp_path, monkeypatch):
    shape = (1024, 1024, 1024)
    start = content((DIM, "4h", 3, *shape), (DATATYPE, "2h", 2, 8))[:352]
    path = bomb(tmp_path / "x.nii.gz", start, 1)
    monkeypatch.setattr(nifti, "available", lambda: 2 * 10**9)
    with (
        little(),
        pytest.raises(FdsegError, match=r"takes 5.4 GB of memory, and 2.0 GB are left. Crop"),
    ):
        read_volume(path)


@pytest.mark.parametrize("read", [open_volume, read_volume, read_label])
@pytest.mark.parametrize("offset", [6e9, 6e18, math.inf, math.nan, -352, 0, 200, 352.5])
def test_voxels_that_begin_elsewhere_are_not_looked_for(tmp_path, read, offset):
    path = bomb(tmp_path / "x.nii.gz", content((OFFSET, "f", offset)))
    with little(), pytest.raises(FdsegError, match=r"x.nii.gz: .*voxels are said to begin at byte"):
        read(path)


def test_voxels_beyond_the_end_of_a_plain_file_are_not_looked_for(tmp_path):
    path = tmp_path / "x.nii"
    path.write_bytes(content((OFFSET, "f", 4096)))
    with little(), pytest.raises(FdsegError, match=r"x.nii: cut off or corrupt \(too small for"):
        read_volume(path)


@pytest.mark.parametrize("length", [2**31 - 16, MAX_EXTENSIONS, 0, -16, 7])
def test_an_extension_of_any_length_is_not_read(tmp_path, length):
    voxels_at = 352 + 64
    extension = struct.pack("<2i", length, 4) + bytes(56)
    raw = content((OFFSET, "f", voxels_at), (EXTENDED, "4B", 1, 0, 0, 0))
    path = bomb(tmp_path / "x.nii.gz", raw[:352] + extension + raw[352:])
    with little(), pytest.raises(FdsegError, match=rf"extension .* is said to have {length} bytes"):
        open_volume(path)


def test_an_extension_that_is_one_is_kept(tmp_path):
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"scanned on a Sunday"))
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").data, VOXELS)
    kept = open_volume(tmp_path / "x.nii.gz").header.extensions[0]
    assert kept.get_content() == b"scanned on a Sunday"


def test_gigabytes_behind_the_voxels_are_not_unpacked(tmp_path):
    path = bomb(tmp_path / "x.nii.gz", content())
    with little(), pytest.raises(FdsegError, match="more voxels follow the 5×6×7 of its header"):
        read_volume(path)


def test_a_header_that_hides_all_volumes_but_the_first_is_refused(tmp_path):
    several = np.stack([VOXELS] * 10, -1)
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(content((DIM, "h", 3), voxels=several)))
    with pytest.raises(FdsegError, match="more voxels follow the 5×6×7 of its header"):
        read_volume(path)


def test_a_block_that_was_filled_up_is_no_fault(tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(content() + bytes(512)))
    np.testing.assert_array_equal(read_volume(path).data, VOXELS)


@pytest.mark.parametrize("dimensions", [0, -1, -3, 1, 2, 5, 7, 8, 100, 32767])
def test_a_number_of_axes_that_is_not_3_is_refused(tmp_path, dimensions):
    path = bomb(tmp_path / "x.nii.gz", content((DIM, "h", dimensions)))
    with little(), pytest.raises(FdsegError, match=r"x.nii.gz: "):
        read_volume(path)


@pytest.mark.parametrize("position", [SLOPE, INTERCEPT])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_scaling_that_is_not_finite_is_refused(tmp_path, position, value):
    path = bomb(tmp_path / "x.nii.gz", content((position, "f", value)))
    with little(), pytest.raises(FdsegError, match=r"the scaling in the header is not finite"):
        read_volume(path)


def test_without_scaling_the_intercept_does_not_matter(tmp_path):
    path = tmp_path / "x.nii"
    path.write_bytes(content((SLOPE, "2f", 0, math.nan)))
    np.testing.assert_array_equal(read_volume(path).data, VOXELS)


def test_the_header_of_a_pair_of_files_is_refused_in_a_single_one(tmp_path):
    path = tmp_path / "x.nii"
    path.write_bytes(content((MAGIC, "4s", b"ni1\0")))
    with pytest.raises(FdsegError, match="there is no NIfTI header in it"):
        open_volume(path)


@pytest.mark.parametrize("name", ["x.nii.bz2", "x.nii.zst", "x.hdr", "x.img", "x.mnc", "x.gii"])
def test_only_the_two_endings_reach_a_library(tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(content())
    monkeypatch.setattr(nib, "load", None)
    with pytest.raises(FdsegError, match=r"does not end in \.nii or \.nii\.gz; convert"):
        open_volume(tmp_path / name)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("position", range(0, 400, 7))
def test_a_voxel_that_changed_on_the_way_is_noticed_where_the_file_has_a_checksum(
    tmp_path, ending, position
):
    path = tmp_path / f"x.{ending}"
    nib.save(nib.Nifti1Image(VOXELS, np.eye(4)), path)
    raw = bytearray(path.read_bytes())
    raw[-1 - position] ^= 16
    path.write_bytes(raw)
    if ending == "nii.gz":
        with pytest.raises(FdsegError, match=r"x.nii.gz: cut off or corrupt"):
            read_volume(path)
    else:
        changed = np.frombuffer(raw[352:], np.float32).reshape(SHAPE, order="F")
        np.testing.assert_array_equal(read_volume(path).data, changed)


def test_a_volume_of_the_other_byte_order_is_read(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(VOXELS, np.eye(4), header), tmp_path / "x.nii.gz")
    assert open_volume(tmp_path / "x.nii.gz").header.endianness == ">"
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").data, VOXELS)


@pytest.mark.parametrize("read", [open_volume, read_volume, read_label])
def test_nobody_waits_for_a_pipe(tmp_path, read):
    os.mkfifo(tmp_path / "x.nii.gz")
    with pytest.raises(FdsegError, match=r"x.nii.gz: not a readable NIfTI file \(it is no file\)"):
        read(tmp_path / "x.nii.gz")
