"""Labels pushed through preprocessing and back, in files, over 50 random geometries.

With `-s` it prints the Dice of all that were resized.
"""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from fdseg.data.cache import Preparer
from fdseg.data.cases import Case
from fdseg.data.nifti import write_label
from fdseg.data.preprocess import Preprocessing

GRID = (64, 60, 56)
SEEDS = range(50)


def write_case(folder, seed, least, most):
    """A case in a random geometry: oblique, flipped, anisotropic, of any size.

    Its structures are an organ as wide as two thirds of the volume (the spleen is as many voxels of
    its larger grid), and a small part of it.

    Args:
        least, most: voxels of the volume along an axis, as a multiple of the grid's.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in np.multiply(GRID, rng.uniform(least, most, 3)).round())
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", rng.uniform(-30, 30, 3), degrees=True).as_matrix()
    affine[:3, :3] = turn @ axes @ np.diag(rng.uniform(0.4, 5, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    centre = rng.uniform(-0.1, 0.1, 3)
    distance = np.zeros(shape)
    for axis, n in enumerate(shape):
        position = (np.arange(n) + 0.5) / n - 0.5 - centre[axis]
        distance += np.expand_dims(position**2, tuple({0, 1, 2} - {axis}))
    label = (distance < 0.35**2).astype(np.uint8) + (distance < 0.05**2)
    image = (50 * label + rng.normal(0, 5, shape)).astype(np.float32)
    for name, voxels in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    return Case("case", folder / "image.nii.gz", folder / "label.nii.gz", "case")


def there_and_back(case, reshape, folder):
    """The label and what comes back, after a passage through the cache and a file."""
    preprocessing = Preprocessing(GRID, reshape)
    preparer = Preparer(folder / "cache", preprocessing, {"rest": 1, "part": 2})
    (prepared,) = preparer([case], {"case": "content"})
    on_grid = np.array(prepared.label())
    masks = (on_grid == np.arange(1, 3)[:, None, None, None]).astype(np.float32)
    native = preprocessing.restore(masks, prepared.geometry)
    back = np.where(native.max(0) > 0.5, 1 + native.argmax(0), 0)
    write_label(folder / "back.nii.gz", back.astype(np.uint8), like=case.image)
    written, label = nib.load(folder / "back.nii.gz"), nib.load(case.label)
    np.testing.assert_array_equal(written.affine, label.affine)
    return np.asarray(label.dataobj), np.asarray(written.dataobj)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_label_that_is_padded_comes_back_to_the_voxel(tmp_path, seed):
    case = write_case(tmp_path, seed, 0.3, 1)
    label, back = there_and_back(case, "crop_or_pad", tmp_path)
    np.testing.assert_array_equal(back, label)


def test_a_label_that_is_resized_by_up_to_two_comes_back_almost_to_the_voxel(tmp_path):
    found = []
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        label, back = there_and_back(write_case(folder, seed, 0.5, 2), "resize", folder)
        found.append(dice(label > 0, back > 0))
    print(f"\nresized, {len(found)} geometries: Dice {min(found):.4f} to {max(found):.4f}, "
          f"median {np.median(found):.4f}")  # fmt: skip
    assert min(found) >= 0.98
