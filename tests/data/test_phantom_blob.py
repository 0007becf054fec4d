import json

import nibabel as nib
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy import ndimage

from fdseg import config as configuration
from fdseg import sweep
from fdseg.data.phantom import blob, cohorts, write_phantom
from fdseg.data.phantom.canvas import Grid, render
from fdseg.errors import FdsegError

GRID = Grid((24, 24, 16), (1.0, 1.0, 1.0))
DEFAULTS = OmegaConf.load(configuration.FOLDER / "data" / "blob.yaml").phantom
TRAITS = {key: value for key, value in DEFAULTS.items() if key != "cohort"}
OTHER = {"radius_mm": 2.5, "edge_mm": 4.0, "contrast": 0.8, "noise": 0.1, "slope": 2.0,
         "smaller": 4, "fainter": 2}  # fmt: skip


def full(**traits):
    """Arguments of the whole resolution, with some traits changed."""
    return {"scale": 1.0, **TRAITS, **traits}


def drawn(subject, grid=GRID, **traits):
    """Image and label of a subject without the noise."""
    return render(blob.blob, grid, [0, subject], traits=blob.Traits(**(TRAITS | traits)))


def membership(subject, grid=GRID, **traits):
    """From 0 in the background to 1 in the structure, whatever the texture; and the label."""
    (image, label), (background, _) = (
        drawn(subject, grid, **traits, contrast=contrast) for contrast in (1.0, 0.0)
    )
    return image - background, label > 0


def equivalent_radius(label, voxel_mm3=1.0):
    return (label.sum() * voxel_mm3 * 3 / 4 / np.pi) ** (1 / 3)


@pytest.mark.parametrize("radius", [2.5, 4.0, 5.5])
def test_the_label_has_the_volume_of_a_sphere_of_the_radius(radius):
    radii = [equivalent_radius(drawn(k, radius_mm=radius)[1]) for k in range(40)]
    assert np.mean(radii) == pytest.approx(radius, rel=0.03)
    assert 0.05 < np.std(radii) / radius < 0.15


@pytest.mark.parametrize("contrast", [0.25, 0.4, 0.8])
def test_the_structure_is_brighter_by_the_contrast_and_nothing_else_is(contrast):
    (image, label), (background, _) = (drawn(3, contrast=c) for c in (contrast, 0.0))
    difference = image - background
    inside = ndimage.binary_erosion(label, iterations=2)
    outside = ~ndimage.binary_dilation(label, iterations=2)
    np.testing.assert_allclose(difference[inside], contrast, atol=1e-6)
    assert not difference[outside].any()


@pytest.mark.parametrize("edge", [1.0, 2.0, 4.0])
def test_the_intensity_rises_in_the_width_of_the_edge(edge):
    grid = GRID.scaled(2)
    widths = []
    for subject in range(4):
        m, label = membership(subject, grid, edge_mm=edge)
        np.testing.assert_array_equal(m > 0.5, label)
        # With s = 3t² − 2t³ from 0 to 1 over a width w, ∫ s (1 − s) = 9/70 w across a surface.
        surface = 4 * np.pi * equivalent_radius(label, 1 / 8) ** 2
        widths.append((m * (1 - m)).sum() / 8 / surface * 70 / 9)
    assert np.mean(widths) == pytest.approx(edge, rel=0.1)


def test_an_edge_is_no_sharper_than_a_voxel():
    np.testing.assert_array_equal(drawn(1, edge_mm=0.0)[0], drawn(1, edge_mm=1.0)[0])


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0, 3.0])
def test_the_power_of_the_noise_falls_by_its_slope_at_the_same_variance(slope):
    grid = Grid((48, 40, 32), (1.0, 0.8, 1.5))
    axes = [np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.spacing_mm, strict=True)]
    f = np.sqrt(sum(k**2 for k in np.meshgrid(*axes, indexing="ij"))).ravel()
    bands = np.digitize(f, np.geomspace(0.03, 0.33, 9))
    power = np.zeros(f.size)
    for seed in range(3):
        values = blob.noise(np.random.default_rng(seed), grid, slope)
        assert values.mean() == pytest.approx(0, abs=1e-6)
        assert values.std() == pytest.approx(1, abs=1e-5)
        power += np.abs(np.fft.fftn(values).ravel()) ** 2
    points = [(f[bands == b].mean(), power[bands == b].mean()) for b in range(1, 9)]
    fitted, _ = np.polyfit(*np.log(points).T, deg=1)
    assert -fitted == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize("subject", range(6))
def test_look_alikes_are_counted_apart_and_leave_the_structure_as_it_is(subject):
    alone, label = membership(subject)
    for name, count, level, radius in (("smaller", 4, 1.0, 2.4), ("fainter", 2, 0.5, 4.0)):
        image, same = membership(subject, **{name: count})
        others = image - alone
        np.testing.assert_array_equal(same, label)
        assert not others[label].any()
        parts, found = ndimage.label(others > level / 2)
        assert found == count
        assert others.max() == pytest.approx(level, abs=1e-6)
        radii = [equivalent_radius(parts == part) for part in range(1, found + 1)]
        assert np.mean(radii) == pytest.approx(radius, rel=0.2)
        assert not (ndimage.binary_dilation(parts > 0) & label).any()


def test_the_texture_is_the_same_whatever_the_other_traits():
    texture, _ = drawn(2, contrast=0.0)
    for trait in OTHER.keys() - {"contrast"}:
        np.testing.assert_array_equal(drawn(2, contrast=0.0, **{trait: OTHER[trait]})[0], texture)
    power = np.mean([np.square(drawn(k, contrast=0.0)[0]) for k in range(40)])
    assert power**0.5 == pytest.approx(0.1, rel=0.1)


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def test_a_written_volume_is_the_drawn_one_and_its_noise(tmp_path):
    images = {}
    for name, traits in (("clean", {"noise": 0.0}), ("white", {}), ("brown", {"slope": 2.0})):
        cohort = write_phantom("blob", tmp_path / name, subjects=1, **full(**traits))
        images[name] = voxels(cohort / "imagesTr" / "blob_001.nii.gz")
    label = voxels(cohort / "labelsTr" / "blob_001.nii.gz")
    assert label.shape == (24, 24, 16)
    assert set(np.unique(label)) == {0, 1}
    for name in ("white", "brown"):
        assert (images[name] - images["clean"]).std() == pytest.approx(TRAITS["noise"], rel=1e-4)


def test_equal_arguments_write_equal_bytes_and_another_seed_others(tmp_path):
    def written(name, **options):
        cohort = write_phantom("blob", tmp_path / name, **full(), **options)
        return {p.name: p.read_bytes() for p in cohort.glob("*/*.nii.gz") if "images" in str(p)}

    first, again = (written(name, subjects=2) for name in ("first", "again"))
    other, more = written("other", subjects=2, seed=1), written("more", subjects=3)
    assert first == again
    assert all(first[name] != other[name] for name in first)
    assert first.items() <= more.items()
    assert len(more) == 3


def test_the_cohort_says_what_it_is(tmp_path):
    cohort = write_phantom("blob", tmp_path, subjects=1, **full())
    dataset = json.loads((cohort / "dataset.json").read_text())
    assert dataset["phantom"] == {"scale": 1.0, "seed": 0, "subjects": 1} | TRAITS
    assert dataset["labels"] == {"0": "background", "1": "blob"}
    with pytest.raises(FdsegError, match=r"here is the phantom .*'noise': 0\.4.*'noise': 0\.1"):
        write_phantom("blob", tmp_path, subjects=1, **full(noise=0.1))


def test_every_trait_makes_other_data_and_another_run(tmp_path):
    words = ["data=blob", "n=1", "data.phantom.subjects=4", f"runs={tmp_path}"]
    variants = [[], *([f"data.phantom.{key}={value}"] for key, value in OTHER.items())]
    points = [sweep.grid([*words, *more])[0] for more in variants]
    assert {point.state.name for point in points} == {"missing"}
    assert len({point.run.folder for point in points}) == len(variants)
    assert len({point.run.task.fingerprint for point in points}) == len(variants)
    images = [point.run.task.found.cases[0].image for point in points]
    assert len({path.read_bytes() for path in images}) == len(variants)


def test_a_cohort_of_another_name_is_a_task_of_its_own_on_the_same_files(tmp_path):
    words = ["data=blob", "n=1", "data.phantom.subjects=4", f"runs={tmp_path}"]
    [one], [other] = (sweep.grid([*words, f"data.name={n}"]) for n in ("blob", "blob_again"))
    assert other.run.folder.match("blob_again-phantom/unet/none/n1/seed0-????????")
    assert other.run.task.found.cases == one.run.task.found.cases
    assert other.run.task.fingerprint == one.run.task.fingerprint


def test_no_real_cohort_takes_its_place(monkeypatch, tmp_path):
    monkeypatch.setenv("FDSEG_DATA", "/data")
    [(_, _, config)] = sweep.configurations(["data=blob", f"runs={tmp_path}"])
    assert instantiate(configuration.resolve(config).data, _convert_="all").is_phantom


@pytest.mark.parametrize(
    ("task", "traits", "message"),
    [
        ("blob", {"radius_mm": 9}, r"data\.phantom\.radius_mm=9: expected a number from 1 to 6"),
        ("blob", {"noise": -0.1}, r"data\.phantom\.noise=-0\.1: expected a number from 0 to"),
        ("blob", {"slope": None}, r"data\.phantom\.slope=None: expected a number"),
        ("blob", {"smaller": 1.5}, r"data\.phantom\.smaller=1\.5: expected a whole number"),
        ("blob", {"colour": 1}, r"colour: the phantom of blob has the traits contrast, .*each"),
        ("heart", {}, r"contrast, .*: the phantom of heart has no traits"),
    ],
)
def test_a_wrong_trait_is_named(task, traits, message, tmp_path):
    with pytest.raises(FdsegError, match=message):
        write_phantom(task, tmp_path, **full(**traits))
    assert list(tmp_path.iterdir()) == []


def test_traits_that_are_left_out_are_named(tmp_path):
    with pytest.raises(FdsegError, match=r"slope: the phantom of blob has the traits"):
        write_phantom("blob", tmp_path, **{k: v for k, v in full().items() if k != "slope"})


def test_it_leaves_the_subjects_of_the_other_cohorts_as_they_are():
    """Their place in the alphabet is in their seeds."""
    folders = sorted(cohort.folder for cohort in cohorts.COHORTS.values())
    order = ["ICEBERG", "ICEBERG", "Task02_Heart", "Task04_Hippocampus", "Task09_Spleen"]
    assert folders[:5] == order
