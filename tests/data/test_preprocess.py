import json

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass
from scipy.spatial.transform import Rotation

from fdseg.data.nifti import Volume
from fdseg.data.preprocess import Geometry, Preprocessing
from fdseg.errors import FdsegError

SIGNED_PERMUTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for signs in np.stack(np.meshgrid(*[[1, -1]] * 3), -1).reshape(-1, 3)
]


def random_affine(rng):
    """Permuted and flipped axes, anisotropic spacing, turned by some degrees, anywhere."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
    permutation = SIGNED_PERMUTATIONS[rng.integers(len(SIGNED_PERMUTATIONS))]
    affine[:3, :3] = turn @ permutation @ np.diag(rng.uniform(0.4, 5, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def one_hot(label):
    return (label[None] == np.arange(3)[:, None, None, None]).astype(np.float32)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def blob(rng, shape):
    """An ellipsoid somewhere in the volume, two thirds as wide."""
    distance = 0.0
    for axis, n in enumerate(shape):
        position = (np.arange(n) + 0.5) / n - 0.5 - rng.uniform(-0.1, 0.1)
        distance = distance + np.expand_dims(position**2, tuple({0, 1, 2} - {axis}))
    return (distance < 0.35**2).astype(np.uint8)


@pytest.mark.parametrize("seed", range(50))
def test_what_is_padded_comes_back_to_the_voxel(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 20, 3).tolist())
    image = Volume(rng.normal(size=shape).astype(np.float32), random_affine(rng))
    label = rng.integers(0, 3, shape, dtype=np.uint8)
    preprocess = Preprocessing((20, 21, 22), "crop_or_pad")
    scaled, on_grid, geometry = preprocess(image, label)
    assert scaled.shape == on_grid.shape == (20, 21, 22)
    restored = preprocess.restore(one_hot(on_grid), geometry)
    np.testing.assert_array_equal(restored[1:], one_hot(label)[1:])


@pytest.mark.parametrize("seed", range(50))
def test_what_is_resized_comes_back_almost_to_the_voxel(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(60, 90, 3).tolist())
    label = blob(rng, shape)
    image = Volume(label.astype(np.float32), random_affine(rng))
    preprocess = Preprocessing((72, 76, 68), "resize")
    _, on_grid, geometry = preprocess(image, label)
    restored = preprocess.restore(one_hot(on_grid), geometry).argmax(0)
    assert dice(restored == 1, label == 1) >= 0.98
    # Half a voxel aside would hardly be seen in the Dice.
    moved = np.subtract(center_of_mass(restored), center_of_mass(label))
    assert np.abs(moved).max() < 0.25


def test_halving_a_label_moves_it_by_no_more_than_half_a_voxel():
    # Each voxel of the grid lies between two voxels, and the nearest neighbour is one of them.
    label = blob(np.random.default_rng(0), (80, 80, 40))
    preprocess = Preprocessing((40, 40, 40), "resize")
    _, on_grid, geometry = preprocess(Volume(label.astype(np.float32), np.eye(4)), label)
    restored = preprocess.restore(one_hot(on_grid), geometry).argmax(0)
    moved = np.subtract(center_of_mass(restored), center_of_mass(label))
    assert np.abs(moved).max() < 0.55


@pytest.mark.parametrize("seed", range(10))
def test_a_crop_loses_what_lies_outside_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(10, 20, 3).tolist())
    image = Volume(rng.normal(size=shape).astype(np.float32), random_affine(rng))
    label = rng.integers(1, 3, shape, dtype=np.uint8)
    preprocess = Preprocessing((12, 13, 14), "crop_or_pad")
    _, on_grid, geometry = preprocess(image, label)
    restored = preprocess.restore(one_hot(on_grid), geometry)[1:]
    inside = restored.any(0)
    np.testing.assert_array_equal(restored * inside, one_hot(label)[1:] * inside)
    kept = np.minimum(geometry.canonical(label).shape, (12, 13, 14)).prod()
    assert inside.sum() == kept


@pytest.mark.parametrize("seed", range(10))
def test_the_grid_is_in_the_orientation_that_nibabel_finds_closest_to_canonical(seed):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(7, 9, 6)).astype(np.float32)
    affine = random_affine(rng)
    expected = nib.as_closest_canonical(nib.Nifti1Image(data, affine)).get_fdata()
    expected = (expected - expected.min()) / np.ptp(expected)
    size = tuple(n + 4 for n in expected.shape)
    scaled, label, _ = Preprocessing(size, "crop_or_pad")(Volume(data, affine))
    assert label is None
    np.testing.assert_allclose(scaled, np.pad(expected, 2), atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_turning_to_canonical_axes_and_back_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(4, 5, 6)).astype(np.float32)
    affine = random_affine(rng)
    _, _, geometry = Preprocessing((8, 8, 8), "resize")(Volume(data, affine))
    turned = geometry.canonical(data)
    np.testing.assert_array_equal(geometry.native(turned), data)
    np.testing.assert_array_equal(geometry.canonical(geometry.native(turned)), turned)
    expected = nib.as_closest_canonical(nib.Nifti1Image(data, affine)).get_fdata()
    np.testing.assert_array_equal(turned, expected.astype(np.float32))


def test_channels_can_be_restored_in_canonical_orientation():
    rng = np.random.default_rng(0)
    affine = np.diag([-2.0, 1, 3, 1])[[1, 0, 2, 3]]
    image = Volume(rng.normal(size=(6, 9, 7)).astype(np.float32), affine)
    preprocess = Preprocessing((10, 10, 10), "crop_or_pad")
    _, on_grid, geometry = preprocess(image, rng.integers(0, 3, (6, 9, 7), dtype=np.uint8))
    native = preprocess.restore(one_hot(on_grid), geometry)
    canonical = preprocess.restore(one_hot(on_grid), geometry, canonical=True)
    assert native.shape == (3, 6, 9, 7)
    assert canonical.shape == (3, 9, 6, 7)
    assert native.dtype == canonical.dtype == np.float32
    for there, here in zip(canonical, native, strict=True):
        np.testing.assert_array_equal(there, geometry.canonical(here))


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
@pytest.mark.parametrize("seed", range(5))
def test_a_geometry_survives_json(reshape, seed):
    rng = np.random.default_rng(seed)
    image = Volume(rng.normal(size=(5, 6, 7)).astype(np.float32), random_affine(rng))
    _, _, geometry = Preprocessing((9, 4, 8), reshape)(image)
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (3e4, -1024), (1e-6, 1e-3)])
def test_images_lie_between_0_and_1_and_labels_keep_their_values(reshape, scale, shift):
    rng = np.random.default_rng(0)
    image = (scale * rng.normal(size=(13, 14, 15)) + shift).astype(np.float32)
    label = rng.choice(np.array([0, 2, 7], np.uint8), (13, 14, 15))
    preprocess = Preprocessing((16, 12, 15), reshape)
    scaled, on_grid, _ = preprocess(Volume(image, random_affine(rng)), label)
    assert scaled.dtype == np.float32
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert on_grid.dtype == np.uint8
    assert set(np.unique(on_grid)) <= {0, 2, 7}


def test_the_smallest_voxel_becomes_0_and_the_largest_1():
    data = np.linspace(-7, 5, 4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    scaled, _, _ = Preprocessing((4, 5, 6), "crop_or_pad")(Volume(data, np.eye(4)))
    np.testing.assert_allclose(scaled, (data + 7) / 12, atol=1e-6)


def test_preprocessing_leaves_its_input_as_it_was():
    data = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)
    label = (data > 0).astype(np.uint8)
    before = data.copy(), label.copy()
    Preprocessing((8, 8, 8), "resize")(Volume(data, np.diag([-1.0, 1, 1, 1])), label)
    np.testing.assert_array_equal(data, before[0])
    np.testing.assert_array_equal(label, before[1])


lengths = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=60)
@given(shape=lengths, size=lengths)
def test_the_offset_is_where_torchio_puts_the_first_voxel_for_every_parity(shape, size):
    assume(np.prod(shape) > 1)
    numbers = np.arange(1, np.prod(shape) + 1).reshape(shape)
    moved = tio.CropOrPad(size)(torch.from_numpy(numbers)[None])[0].numpy()
    image = Volume(numbers.astype(np.float32), np.eye(4))
    _, _, geometry = Preprocessing(size, "crop_or_pad")(image)
    expected = np.zeros(size, int)
    for index in np.ndindex(shape):
        target = np.add(index, geometry.offset).astype(int)
        if (target >= 0).all() and (target < size).all():
            expected[tuple(target)] = numbers[index]
    np.testing.assert_array_equal(moved, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("length", "size"), [(20, 31), (31, 20), (24, 12), (12, 24), (15, 15)])
def test_a_resized_ramp_has_the_values_of_the_line(axis, length, size):
    shape, grid = [10, 10, 10], [10, 10, 10]
    shape[axis], grid[axis] = length, size
    ramp = np.broadcast_to(
        np.expand_dims(np.arange(length), [a for a in range(3) if a != axis]), shape
    )
    image = Volume(ramp.astype(np.float32), np.diag([0.7, 1.3, 2.9, 1]))
    scaled, _, _ = Preprocessing(tuple(grid), "resize")(image)
    # The fields of view coincide: voxel j of the grid lies at (j + ½)·length/size − ½.
    position = (np.arange(size) + 0.5) * length / size - 0.5
    inside = (position >= 0) & (position <= length - 1)
    found = np.moveaxis(scaled, axis, -1)[5, 5]
    np.testing.assert_allclose(found[inside], position[inside] / (length - 1), atol=2e-6)
    assert inside.sum() >= size - 2


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_a_sheared_affine_is_handled_along_the_grids_own_axes(reshape):
    affine = np.array([[-1.0, 0.3, 0, 5], [0.1, 1.2, 0.4, 6], [0, 0.2, 2, 7], [0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    label = blob(rng, (72, 76, 70))
    preprocess = Preprocessing((80, 80, 80), reshape)
    _, on_grid, geometry = preprocess(Volume(label.astype(np.float32), affine), label)
    assert geometry.orientation == ((0, -1), (1, 1), (2, 1))
    restored = preprocess.restore(one_hot(on_grid), geometry).argmax(0)
    assert dice(restored == 1, label == 1) >= 0.98


def test_an_unknown_way_to_reshape_is_refused():
    with pytest.raises(FdsegError, match=r"data.reshape=stretch: expected crop_or_pad or resize"):
        Preprocessing((8, 8, 8), "stretch")


@pytest.mark.parametrize(
    "size",
    [
        (8, 8), (8, 8, 8, 1), (8, 8, 0), (8, 8, 1.0), (8, 8, True), ("8", 8, 8), (4097, 8, 8),
        (32767, 32767, 32767), (1024, 1024, 1025),
    ],
)  # fmt: skip
def test_what_is_no_grid_or_too_large_a_one_is_refused(size):
    with pytest.raises(FdsegError, match=r"^data.size=\[.*\] is no grid: expected three whole num"):
        Preprocessing(size, "resize")
    Preprocessing((1024, 1024, 1024), "resize")
    Preprocessing((4096, 1, 1), "resize")
