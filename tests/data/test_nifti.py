import errno
import gzip
import math
import re
import struct
from datetime import timedelta
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdseg.data.nifti import grid_difference, open_volume, read_label, read_volume, write_label
from fdseg.errors import FdsegError

SHAPE = (5, 6, 7)
AFFINE = np.array([[-1.3, 0.2, 0, 11], [0.1, 0.9, 0.3, -7], [0, 0.4, 2.1, 3], [0, 0, 0, 1]])
VOXELS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)

# Where a NIfTI-1 header keeps what (nifti1.h).
DIM, DATATYPE, PIXDIM, OFFSET, SLOPE, SFORM_CODE, SROW = 40, 70, 76, 108, 112, 254, 280


def save(path, voxels=VOXELS, affine=AFFINE, kind=nib.Nifti1Image):
    nib.save(kind(voxels, affine), path)
    return path


def forge(path, *changes):
    """A file whose header is not true: each change is a position, a format, and values."""
    raw = bytearray(nib.Nifti1Image(VOXELS, AFFINE).to_bytes())
    for position, form, *values in changes:
        struct.pack_into(f"<{form}", raw, position, *values)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.fixture
def no_voxel_is_read(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a voxel was read")

    monkeypatch.setattr(nib.Nifti1Image, "get_fdata", refuse)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_volume_is_read_with_its_geometry(tmp_path, ending, kind):
    volume = read_volume(save(tmp_path / f"x.{ending}", kind=kind))
    np.testing.assert_array_equal(volume.data, VOXELS)
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    expected = [math.sqrt(sum(AFFINE[row, axis] ** 2 for row in range(3))) for axis in range(3)]
    assert volume.spacing == pytest.approx(expected)


def test_stored_integers_are_scaled_as_the_header_says(tmp_path):
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), AFFINE)
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "x.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "x.nii.gz").dataobj)
    np.testing.assert_allclose(read_volume(tmp_path / "x.nii.gz").data, stored, atol=1e-6)


# The unit of length: its code in xyzt_units (nifti1.h), and how many mm it is. ITK and MONAI, too,
# take mm where none is named; 5 is a code that nobody defined, 16 stands for milliseconds.
UNITS = {0: 1, 1: 1000, 2: 1, 3: 0.001, 5: 1, 16: 1, 3 + 16: 0.001, 1 + 8: 1000}


def in_unit(image, code):
    """An image whose header says that its numbers are of this unit."""
    image.header["xyzt_units"] = code
    return image


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("code", UNITS)
def test_the_geometry_is_in_mm_whatever_the_headers_unit_of_length(tmp_path, kind, code):
    nib.save(in_unit(kind(VOXELS.round() ** 2, AFFINE), code), tmp_path / "x.nii.gz")
    expected = np.vstack([AFFINE[:3] * UNITS[code], AFFINE[3:]])
    for found in (
        open_volume(tmp_path / "x.nii.gz"),
        read_volume(tmp_path / "x.nii.gz"),
        read_label(tmp_path / "x.nii.gz"),
    ):
        np.testing.assert_allclose(found.affine, expected, rtol=1e-6)
    sides = np.linalg.norm(AFFINE[:3, :3], axis=0) * UNITS[code]
    assert read_volume(tmp_path / "x.nii.gz").spacing == pytest.approx(tuple(sides))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("code", UNITS)
def test_a_label_is_written_in_the_unit_of_its_volume(tmp_path, kind, code):
    nib.save(in_unit(kind(VOXELS, AFFINE), code), tmp_path / "source.nii.gz")
    write_label(tmp_path / "label.nii.gz", np.ones(SHAPE), like=tmp_path / "source.nii.gz")
    assert nib.load(tmp_path / "label.nii.gz").header["xyzt_units"] == code
    label, volume = (read_volume(tmp_path / f"{n}.nii.gz") for n in ("label", "source"))
    np.testing.assert_array_equal(label.affine, volume.affine)


def test_the_same_place_in_two_units_is_the_same_grid(tmp_path):
    micron = np.diag([1000, 1000, 1000, 1]) @ AFFINE
    nib.save(in_unit(nib.Nifti1Image(VOXELS, micron), 3), tmp_path / "micron.nii.gz")
    save(tmp_path / "mm.nii.gz")
    heads = [open_volume(tmp_path / f"{name}.nii.gz") for name in ("mm", "micron")]
    assert grid_difference(*heads, ("image", "label")) is None


def test_the_same_numbers_in_two_units_are_told_by_the_size_of_their_voxels(tmp_path):
    affine = np.diag([1, 1.5, 2, 1])
    nib.save(in_unit(nib.Nifti1Image(VOXELS, affine), 3), tmp_path / "micron.nii.gz")
    save(tmp_path / "mm.nii.gz", affine=affine)
    heads = [open_volume(tmp_path / f"{name}.nii.gz") for name in ("mm", "micron")]
    words = r"with voxels of 1×1.5×2 and 0.001×0.0015×0.002 mm \(pixdim in the unit of xyzt_units"
    assert re.search(words, grid_difference(*heads, ("image", "label")))


def test_a_fourth_axis_of_length_1_is_dropped(tmp_path):
    assert read_volume(save(tmp_path / "x.nii.gz", VOXELS[..., None])).data.shape == SHAPE


@pytest.mark.parametrize("extra", [(2,), (1, 3)])
def test_several_volumes_in_a_file_are_refused(tmp_path, extra):
    path = save(tmp_path / "x.nii.gz", np.zeros((*SHAPE, *extra), np.float32))
    with pytest.raises(FdsegError, match=r"x.nii.gz: \d-D \(5×6×7×.* Extract one volume"):
        open_volume(path)


def test_a_single_slice_is_refused(tmp_path):
    with pytest.raises(FdsegError, match=r"2-D \(5×6\) where a 3-D volume is expected"):
        open_volume(save(tmp_path / "x.nii.gz", VOXELS[..., 0]))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FdsegError, match=r"none.nii.gz: no such file"):
        read_volume(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path, kept):
    path = save(tmp_path / "x.nii.gz", np.random.default_rng(0).random((30, 30, 30)))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(FdsegError, match=r"x.nii.gz: cut off or corrupt .* Copy the file again"):
        read_volume(path)


def test_a_plain_file_that_is_cut_off_is_refused(tmp_path):
    path = save(tmp_path / "x.nii")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FdsegError, match=r"x.nii: cut off or corrupt"):
        read_volume(path)


def test_a_plain_file_under_a_compressed_name_is_refused(tmp_path):
    path = save(tmp_path / "x.nii").rename(tmp_path / "x.nii.gz")
    with pytest.raises(FdsegError, match=r"not gzip-compressed, although its name ends in .gz"):
        open_volume(path)


def test_a_compressed_file_under_a_plain_name_is_refused(tmp_path):
    path = save(tmp_path / "x.nii.gz").rename(tmp_path / "x.nii")
    with pytest.raises(FdsegError, match=r"x.nii: not a readable NIfTI file"):
        open_volume(path)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\0" * 500, gzip.compress(b"text", mtime=0)]
)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_what_is_no_nifti_is_refused(tmp_path, content, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(FdsegError, match=rf"x.{ending}: "):
        read_volume(path)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "x.mgz"
    nib.save(nib.MGHImage(VOXELS, AFFINE), path)
    with pytest.raises(FdsegError, match=r"x.mgz: not a readable NIfTI file .*convert it to .nii"):
        open_volume(path)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "x.nii.gz").mkdir()
    with pytest.raises(FdsegError, match=r"x.nii.gz: "):
        open_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((DIM, "4h", 3, 32000, 32000, 32000), "impossible shape 32000×32000×32000"),
        ((DIM, "4h", 3, 4000, 4000, 4000), "too small for the 4000×4000×4000 voxels"),
        ((DIM, "4h", 3, -5, 6, 7), "impossible shape -5×6×7"),
        ((DIM, "4h", 3, 0, 6, 7), "impossible shape|0-D|1-D"),
        ((SROW, "4f", 0, 0, 0, 0), "the affine in the header is singular"),
        ((SROW, "4f", 1, math.nan, 0, 0), "the affine in the header is singular or not finite"),
        ((SROW, "4f", 1, 0, math.inf, 0), "the affine in the header is singular or not finite"),
        ((DATATYPE, "h", 77), "not a readable NIfTI file"),
        ((OFFSET, "f", math.nan), "not a readable NIfTI file"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_without_reading_a_voxel(
    tmp_path, no_voxel_is_read, ending, change, words
):
    with pytest.raises(FdsegError, match=words):
        read_volume(forge(tmp_path / f"x.{ending}", change))


def test_a_million_voxels_along_each_axis_are_refused_without_reading_one(
    tmp_path, no_voxel_is_read
):
    header = nib.Nifti2Image(VOXELS, AFFINE).header
    header["dim"][1:4] = 10**6
    (tmp_path / "x.nii").write_bytes(header.binaryblock + bytes(100))
    with pytest.raises(FdsegError, match="impossible shape 1000000×1000000×1000000"):
        read_volume(tmp_path / "x.nii")


@pytest.mark.parametrize("position", [PIXDIM + 4, PIXDIM + 8, PIXDIM + 12])
@pytest.mark.parametrize("spacing", [0, -1, math.nan, math.inf])
@pytest.mark.parametrize("sform_code", [0, 2])
def test_a_spacing_that_is_no_length_is_refused_even_beside_a_stored_affine(
    tmp_path, position, spacing, sform_code
):
    forged = (position, "f", spacing), (SFORM_CODE, "h", sform_code)
    with pytest.raises(FdsegError, match=rf"the spacing in the header is .*{spacing:g}"):
        open_volume(forge(tmp_path / "x.nii.gz", *forged))


@pytest.mark.parametrize(
    ("dtype", "word"),
    [(np.dtype("c8"), "complex64"), (np.dtype([(c, "u1") for c in "RGB"]), "colours")],
)
def test_voxels_that_are_not_one_number_are_refused(tmp_path, dtype, word):
    path = save(tmp_path / "x.nii.gz", np.zeros(SHAPE, dtype))
    with pytest.raises(FdsegError, match=f"voxels are {word} where one real number is expected"):
        open_volume(path)


@settings(
    deadline=timedelta(seconds=2),
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4),
    ending=st.sampled_from(["nii", "nii.gz"]),
)
def test_whatever_the_header_says_it_is_read_or_refused_in_words(tmp_path, changes, ending):
    path = forge(tmp_path / f"x.{ending}", *((where, "B", byte) for where, byte in changes))
    try:
        volume = read_volume(path)
    except FdsegError:
        return
    assert volume.data.ndim == 3
    assert min(volume.spacing) > 0


# Label maps


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_a_label_of_whole_numbers_is_read_whatever_its_type(tmp_path, dtype):
    label = np.random.default_rng(0).integers(0, 4, SHAPE)
    volume = read_label(save(tmp_path / "x.nii.gz", label.astype(dtype)))
    assert volume.data.dtype == np.int16
    np.testing.assert_array_equal(volume.data, label)


def test_a_label_of_fractions_is_refused_with_an_example(tmp_path):
    label = np.ones(SHAPE, np.float32)
    label[1, 2, 3] = 0.25
    with pytest.raises(FdsegError, match=r"not whole numbers \(0.25, for example\).*nearest neigh"):
        read_label(save(tmp_path / "x.nii.gz", label))


def save_scaled(path, stored, slope, intercept=0.0):
    """A file of these numbers, whose header scales them."""
    raw = bytearray(nib.Nifti1Image(stored, AFFINE).to_bytes())
    struct.pack_into("<2f", raw, SLOPE, slope, intercept)
    path.write_bytes(raw)
    return path


LABEL = np.random.default_rng(0).integers(0, 3, SHAPE)


@pytest.mark.parametrize("stored", [np.uint8, np.int8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("values", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_label_of_floats_under_a_header_of_integers_is_read(tmp_path, stored, values, kind):
    # nibabel spreads the range over all integers; 1 of 0 to 2 is 127.5 steps of uint8.
    image = kind(LABEL.astype(values), AFFINE)
    image.set_data_dtype(stored)
    nib.save(image, tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "x.nii.gz").data, LABEL)


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(1 / 55, 0), (1 / 55, -1), (-1 / 55, 2), (0.3, 0), (1 / 3, 0), (0.1, 5), (1e-4, 1)],
)
def test_a_label_is_rounded_within_half_a_step_of_its_slope(tmp_path, slope, intercept):
    stored = np.rint((LABEL - intercept) / slope).astype(np.int16)
    path = save_scaled(tmp_path / "x.nii", stored, slope, intercept)
    np.testing.assert_array_equal(read_label(path).data, LABEL)
    # The integers beside a whole number's are none.
    np.place(stored, LABEL == 1, round((1 - intercept) / slope) + 1)
    with pytest.raises(FdsegError, match="not whole numbers"):
        read_label(save_scaled(path, stored, slope, intercept))


@pytest.mark.parametrize(
    ("slope", "intercept", "shown"),
    [
        (0.5, 0, "0.5, for example, stored as 1 with scl_slope 0.5, scl_inter 0"),
        (0.3, 0, "0.3, for example, stored as 1 with scl_slope 0.3, scl_inter 0"),
        (0.9, 0, "0.9, for example, stored as 1 with scl_slope 0.9, scl_inter 0"),
        (1, 0.25, "0.25, for example, stored as 0 with scl_slope 1, scl_inter 0.25"),
        (0.999, 0, "0.999, for example, stored as 1 with scl_slope 0.999, scl_inter 0"),
    ],
)
def test_a_label_that_its_header_scales_to_fractions_is_refused_with_the_cause(
    tmp_path, slope, intercept, shown
):
    stored = np.clip(np.indices(SHAPE).sum(axis=0), 0, 2).astype(np.int16)
    path = save_scaled(tmp_path / "x.nii", stored, slope, intercept)
    with pytest.raises(FdsegError, match=rf"not whole numbers \({re.escape(shown)}\). If the") as e:
        read_label(path)
    assert "set scl_slope to 1 and scl_inter to 0 in the header; if it was" in str(e.value)


def test_fractions_under_a_fine_slope_are_refused(tmp_path):
    image = nib.Nifti1Image(LABEL / np.float32(4), AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "x.nii")
    with pytest.raises(FdsegError, match=r"not whole numbers \(0\.(25|5)\d*, for example, st"):
        read_label(tmp_path / "x.nii")


def test_a_label_of_scaled_floats_is_rounded_as_floats_are(tmp_path):
    path = save_scaled(tmp_path / "x.nii", (LABEL / 0.4).astype(np.float32), 0.4)
    np.testing.assert_array_equal(read_label(path).data, LABEL)
    near = np.where(LABEL == 1, np.nextafter(np.float32(1), np.float32(0)), LABEL)
    np.testing.assert_array_equal(read_label(save(path, near.astype(np.float32))).data, LABEL)
    with pytest.raises(FdsegError, match=r"not whole numbers \(0.99, for example\). It may have"):
        read_label(save(path, (LABEL * 0.99).astype(np.float32).clip(max=0.99)))


@pytest.mark.parametrize("value", [-1, 40000, np.nan, np.inf])
def test_a_label_value_that_cannot_be_is_refused(tmp_path, value):
    label = np.zeros(SHAPE, np.float32)
    label[1, 2, 3] = value
    with pytest.raises(FdsegError, match=r"label values are not finite numbers from 0 to 32767"):
        read_label(save(tmp_path / "x.nii.gz", label))


@pytest.fixture
def source(tmp_path):
    """A volume whose sform and qform differ, with scaled integers and a stored range."""
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), None)
    image.set_qform(np.diag([1.5, 1, 2, 1]), code=1)
    image.set_sform(AFFINE, code=4)
    image.header.set_slope_inter(0.1, 5)
    image.header["cal_max"] = 300
    nib.save(image, tmp_path / "source.nii.gz")
    return tmp_path / "source.nii.gz"


def test_a_label_is_written_in_the_exact_geometry_of_its_volume(tmp_path, source):
    label = np.random.default_rng(0).integers(0, 3, SHAPE)
    write_label(tmp_path / "new" / "label.nii.gz", label, like=source)
    written, like = nib.load(tmp_path / "new" / "label.nii.gz"), nib.load(source)
    np.testing.assert_array_equal(np.asarray(written.dataobj), label)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(written.affine, like.affine)
    np.testing.assert_array_equal(written.get_qform(), like.get_qform())
    for key in ("sform_code", "qform_code"):
        assert written.header[key] == like.header[key]
    np.testing.assert_array_equal(written.header["pixdim"], like.header["pixdim"])
    assert written.header["cal_max"] == 0
    np.testing.assert_array_equal(read_label(tmp_path / "new" / "label.nii.gz").data, label)


def test_a_label_of_two_byte_values_keeps_them(tmp_path, source):
    label = np.full(SHAPE, 300, np.uint16)
    write_label(tmp_path / "label.nii.gz", label, like=source)
    np.testing.assert_array_equal(read_label(tmp_path / "label.nii.gz").data, label)


def test_a_label_of_a_nifti_2_volume_keeps_its_geometry(tmp_path):
    like = save(tmp_path / "source.nii.gz", kind=nib.Nifti2Image)
    write_label(tmp_path / "label.nii.gz", np.ones(SHAPE), like=like)
    np.testing.assert_array_equal(nib.load(tmp_path / "label.nii.gz").affine, nib.load(like).affine)


def test_a_label_of_a_volume_with_a_fourth_axis_is_3d(tmp_path):
    like = save(tmp_path / "source.nii.gz", VOXELS[..., None])
    write_label(tmp_path / "label.nii.gz", np.ones(SHAPE), like=like)
    assert nib.load(tmp_path / "label.nii.gz").shape == SHAPE


def test_equal_labels_are_equal_files(tmp_path, source):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_label(tmp_path / name, np.ones(SHAPE), like=source)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_label_is_written_whole_or_not_at_all(tmp_path, source, monkeypatch):
    path = tmp_path / "label.nii.gz"
    write_label(path, np.ones(SHAPE), like=source)
    before = path.read_bytes()

    def write_half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left"):
        write_label(path, np.zeros(SHAPE), like=source)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["label.nii.gz", "source.nii.gz"]
