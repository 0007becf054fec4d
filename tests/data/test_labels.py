"""Label maps of predictions, against the rule written out voxel by voxel."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import ndimage

from fdseg.data import preprocess
from fdseg.data.labels import binary, label_map
from fdseg.data.nifti import Volume
from fdseg.data.preprocess import Preprocessing
from fdseg.errors import FdsegError

# Axes swapped and one flipped: native rows are canonical columns.
AFFINE = np.array([[0, -2, 0, 5], [0.8, 0, 0, -3], [0, 0, 1.5, 9], [0, 0, 0, 1]])


def prepared(shape, size, reshape, structures=2, seed=0):
    """Probabilities on the grid, and how they got there."""
    rng = np.random.default_rng(seed)
    preprocessing = Preprocessing(size, reshape)
    image = Volume(rng.normal(size=shape).astype(np.float32), AFFINE)
    geometry = preprocessing(image)[2]
    noise = ndimage.gaussian_filter(rng.normal(size=(structures, *size)), (0, 1, 1, 1))
    return (1 / (1 + np.exp(-8 * noise))).astype(np.float32), preprocessing, geometry


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
@pytest.mark.parametrize("size", [(12, 14, 16), (9, 30, 8), (40, 5, 20)])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_slabs_are_the_parts_of_the_whole(reshape, size, rows, monkeypatch):
    probabilities, preprocessing, geometry = prepared((21, 17, 13), size, reshape)
    whole = preprocessing.restore(probabilities, geometry, canonical=True)
    monkeypatch.setattr(preprocess, "_SLAB", rows * 21 * 13)
    slabs = list(preprocessing.slabs(probabilities, geometry))
    assert [slab.shape for _, slab in slabs[:-1]] == [(2, rows, 21, 13)] * (len(slabs) - 1)
    np.testing.assert_array_equal(np.concatenate([s for _, s in slabs], axis=1), whole)
    np.testing.assert_array_equal(
        preprocessing.restore(probabilities, geometry, canonical=True), whole
    )


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_a_voxel_is_its_likeliest_structure_above_one_half(reshape):
    probabilities, preprocessing, geometry = prepared((21, 17, 13), (16, 16, 16), reshape, 3)
    native = preprocessing.restore(probabilities, geometry)
    expected = np.zeros((21, 17, 13), int)
    for index in np.ndindex(expected.shape):
        here = native[(slice(None), *index)]
        if here.max() > 0.5:
            expected[index] = (4, 1, 9)[here.argmax()]
    found = label_map(probabilities, preprocessing, geometry, [4, 1, 9])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 4, 9}


def test_a_value_that_needs_two_bytes_gets_them():
    probabilities, preprocessing, geometry = prepared((9, 9, 9), (9, 9, 9), "crop_or_pad")
    labels = label_map(probabilities, preprocessing, geometry, [7, 300])
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 7, 300}


def test_of_two_certain_structures_the_last_is_taken():
    preprocessing = Preprocessing((4, 4, 4), "crop_or_pad")
    geometry = preprocessing(Volume(np.eye(4, dtype=np.float32)[..., None] * np.ones(4), AFFINE))[2]
    both = np.ones((2, 4, 4, 4), np.float32)
    assert (label_map(both, preprocessing, geometry, [1, 2]) == 2).all()


def test_masks_need_more_than_one_half():
    probabilities = torch.tensor([0.5, 0.4])[None, :, None, None, None]
    assert not binary(probabilities).any()
    assert binary(probabilities + 0.01)[0, :, 0, 0, 0].tolist() == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_one_probability_that_is_no_number_makes_no_label_map(value, reshape):
    probabilities, preprocessing, geometry = prepared((21, 17, 13), (16, 16, 16), reshape)
    probabilities[1, 8, 8, 8] = value
    with pytest.raises(FdsegError, match=r"^case_7: the network's probabilities are not finite"):
        label_map(probabilities, preprocessing, geometry, [1, 2], "case_7")
    with pytest.raises(FdsegError, match="not finite"):
        binary(torch.from_numpy(probabilities)[None])


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_a_large_volume_takes_little_more_memory_than_its_labels(reshape, monkeypatch):
    monkeypatch.setattr(preprocess, "_SLAB", 2**17)
    probabilities, preprocessing, _ = prepared((8, 8, 8), (32, 32, 32), reshape, 4)
    large = Volume(np.broadcast_to(np.float32(0), (128, 128, 256)), AFFINE)
    geometry = preprocessing._geometry(large)
    tracemalloc.start()
    labels = label_map(probabilities, preprocessing, geometry, [1, 2, 3, 4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.nbytes == 2**22
    # A slab is half a MB a channel, and two of all channels are alive; the whole would be 64 MB.
    assert peak < 2**22 + 12 * 2**19
