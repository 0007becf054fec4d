"""Predictions of any origin against their labels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import assert_refused, compose, shell, table

from fdseg import evaluate
from fdseg.errors import FdsegError

# Anisotropic, oblique, the first axis to the left.
AFFINE = np.array([[-0.8, 0.1, 0, 5], [0.1, 1.2, 0.2, -7], [0, -0.2, 2.5, 3], [0, 0, 0, 1]])
SPACING = np.sqrt((AFFINE[:3, :3] ** 2).sum(axis=0))
VOXEL_ML = SPACING.prod() / 1000


@pytest.fixture
def folders(tmp_path):
    """Two empty folders, for predictions and labels."""
    made = tmp_path / "predictions", tmp_path / "labels"
    for folder in made:
        folder.mkdir()
    return made


def save(path, voxels, affine=AFFINE, kind=nib.Nifti1Image):
    nib.save(kind(voxels, affine), path)


def box(*sides, value=1, shape=(12, 14, 9), dtype=np.uint8):
    voxels = np.zeros(shape, dtype)
    voxels[tuple(slice(*side) for side in sides)] = value
    return voxels


LABEL = box((2, 8), (3, 9), (2, 6)) + box((8, 10), (3, 9), (2, 6), value=2)


def run(folders, *overrides):
    words = [f"predictions={folders[0]}", f"labels={folders[1]}", *overrides]
    config = compose("evaluate", *words)
    evaluate.run(config)
    return table(Path(config.output))


def test_scores_are_those_that_a_hand_computes(folders):
    # A box of 6×6×4 voxels moved by one voxel along its first axis, of 0.806 mm.
    save(folders[0] / "a.nii.gz", box((3, 9), (3, 9), (2, 6)))
    save(folders[1] / "a.nii.gz", box((2, 8), (3, 9), (2, 6)))
    (row,) = run(folders)
    assert float(row["dice"]) == pytest.approx(5 / 6)
    assert float(row["hd95_pooled_mm"]) == pytest.approx(SPACING[0])
    assert float(row["hd95_max_of_directed_mm"]) == pytest.approx(SPACING[0])
    assert float(row["nsd"]) == 1  # no voxel is farther than the tolerance, 1 mm
    assert float(row["prediction_ml"]) == pytest.approx(144 * VOXEL_ML)
    assert float(row["volume_error_ml"]) == 0
    assert row["missed"] == "False"


@pytest.mark.parametrize(
    ("unit", "mm"), [(None, 1), ("unknown", 1), ("mm", 1), ("micron", 1e-3), ("meter", 1e3)]
)
def test_distances_and_volumes_are_in_mm_and_ml_whatever_the_headers_unit(folders, unit, mm):
    # A box of 6×6×4 voxels of 1×1.5×2 units, moved by two voxels along its last axis.
    label = box((2, 8), (3, 9), (2, 6))
    for folder, voxels in zip(folders, (np.roll(label, 2, 2), label), strict=True):
        image = nib.Nifti1Image(voxels, np.diag([1, 1.5, 2, 1]))
        if unit:
            image.header.set_xyzt_units(unit, "sec")
        nib.save(image, folder / "a.nii.gz")
    (row,) = run(folders)
    assert float(row["hd95_pooled_mm"]) == pytest.approx(4 * mm)
    assert float(row["hd95_max_of_directed_mm"]) == pytest.approx(4 * mm)
    assert float(row["label_ml"]) == pytest.approx(144 * 3 * mm**3 / 1000)
    assert float(row["prediction_ml"]) == pytest.approx(144 * 3 * mm**3 / 1000)
    # The tolerance is 1 mm: all of a surface in micron lies within it; of one in metres, that which
    # both have.
    if mm == 1e-3:
        assert float(row["nsd"]) == 1
    else:
        assert 0 < float(row["nsd"]) < 1


def test_both_definitions_of_hd95_are_given(folders):
    # One far voxel: few of all distances, but more than 5 % of the prediction's own.
    label = box((2, 9), (2, 9), (2, 7))
    prediction = box((5, 6), (5, 6), (4, 6))
    prediction[11, 13, 8] = 1
    save(folders[0] / "a.nii.gz", prediction)
    save(folders[1] / "a.nii.gz", label)
    (row,) = run(folders)
    assert float(row["hd95_max_of_directed_mm"]) > float(row["hd95_pooled_mm"])


def test_the_volume_error_is_what_the_prediction_has_more(folders):
    save(folders[0] / "a.nii.gz", box((2, 9), (3, 9), (2, 6)))
    save(folders[1] / "a.nii.gz", box((2, 8), (3, 9), (2, 6)))
    (row,) = run(folders)
    assert float(row["volume_error_ml"]) == pytest.approx(24 * VOXEL_ML)
    assert float(row["label_ml"]) == pytest.approx(144 * VOXEL_ML)


def test_every_value_of_any_map_is_a_structure_unless_structures_are_named(folders):
    save(folders[0] / "a.nii.gz", np.where(LABEL == 2, 7, LABEL).astype(np.uint8))
    save(folders[1] / "a.nii.gz", LABEL)
    rows = run(folders)
    assert [row["structure"] for row in rows] == ["1", "2", "7"]
    assert [float(row["dice"]) for row in rows] == [1, 0, 0]
    assert [row["missed"] for row in rows] == ["False", "True", "False"]
    (row,) = run(folders, "structures={front: 1}")
    assert (row["structure"], float(row["dice"])) == ("front", 1)


def test_a_missed_structure_is_as_far_as_the_volume_is_large(folders, capsys):
    save(folders[0] / "a.nii.gz", np.zeros_like(LABEL))
    save(folders[1] / "a.nii.gz", LABEL)
    rows = run(folders)
    diagonal = np.linalg.norm(np.multiply(LABEL.shape, SPACING))
    assert [float(row["hd95_pooled_mm"]) for row in rows] == pytest.approx([diagonal] * 2)
    assert "Missed altogether: 2 structures." in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("ending", "kind"), [("nii", nib.Nifti1Image), ("nii.gz", nib.Nifti2Image)]
)
def test_maps_of_any_type_and_format_are_compared(folders, dtype, ending, kind):
    save(folders[0] / f"a.{ending}", LABEL.astype(dtype), kind=kind)
    save(folders[1] / "a.nii.gz", LABEL)
    assert [float(row["dice"]) for row in run(folders)] == [1, 1]


def test_floats_that_a_header_of_integers_scales_are_whole_numbers_again(folders):
    for folder, values in zip(folders, (np.float64, np.float32), strict=True):
        image = nib.Nifti1Image(LABEL.astype(values), AFFINE)
        image.set_data_dtype(np.int16)
        nib.save(image, folder / "a.nii.gz")
    rows = run(folders)
    assert [(row["structure"], float(row["dice"])) for row in rows] == [("1", 1), ("2", 1)]


def test_the_table_has_the_mean_and_sem_of_each_structure(folders, capsys):
    for name, first in (("a", 2), ("b", 3), ("c", 4)):
        save(folders[0] / f"{name}.nii.gz", box((first, first + 6), (3, 9), (2, 6)))
        save(folders[1] / f"{name}.nii.gz", box((2, 8), (3, 9), (2, 6)))
    run(folders, "structures={nucleus: 1}")
    # Dice 1, 5/6 and 4/6: their standard deviation (ddof 1) is 1/6.
    line = next(x for x in capsys.readouterr().out.splitlines() if "nucleus" in x)
    assert "0.8333 ± 0.0962" in line


def test_what_only_one_folder_has_is_listed_and_does_not_count(folders, capsys):
    save(folders[0] / "both.nii.gz", LABEL)
    save(folders[0] / "case_0000.nii.gz", LABEL)  # an image's name, not a label map's
    for name in ("both", "case", "other"):
        save(folders[1] / f"{name}.nii.gz", LABEL)
    (folders[1] / "._both.nii.gz").write_bytes(b"left by another file system")
    assert {row["case"] for row in run(folders)} == {"both"}
    printed = capsys.readouterr().out
    assert "2 labels have no prediction: case, other\n" in printed
    assert "1 predictions have no label: case_0000\n" in printed


def test_folders_without_a_common_name_are_refused(folders):
    save(folders[0] / "a_0000.nii.gz", LABEL)
    save(folders[1] / "a.nii.gz", LABEL)
    with pytest.raises(FdsegError, match=r"no file name in common \(a_0000 there, a here"):
        run(folders)


def test_a_name_that_stands_twice_in_a_folder_is_refused(folders):
    for name in ("a.nii", "a.nii.gz"):
        save(folders[0] / name, LABEL)
    with pytest.raises(FdsegError, match=r"predictions=.*: a.nii and a.nii.gz are of one name"):
        run(folders)


def test_a_missing_folder_is_named_by_its_key(folders, tmp_path):
    with pytest.raises(FdsegError, match=r"labels=.*nowhere: no such folder"):
        run((folders[0], tmp_path / "nowhere"))


# Grids


def flipped(voxels):
    """The same volume with its first axis to the right."""
    image = nib.as_closest_canonical(nib.Nifti1Image(voxels, AFFINE))
    return np.asarray(image.dataobj), image.affine


def doubled(voxels):
    """Each voxel as eight."""
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    return np.kron(voxels, np.ones((2, 2, 2), voxels.dtype)), affine


def cropped(voxels):
    """What holds the structures, and no more."""
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [2, 3, 2, 1])[:3]
    return voxels[2:10, 3:9, 2:6], affine


@pytest.mark.parametrize("change", [flipped, doubled, cropped])
def test_another_grid_is_refused_until_resampling_is_asked_for(folders, change):
    save(folders[0] / "a.nii.gz", *change(LABEL))
    save(folders[1] / "a.nii.gz", LABEL)
    with pytest.raises(FdsegError, match=r"a: prediction .*(shape|affines).*resample=true"):
        run(folders)
    assert not list(folders[0].glob("*.csv"))
    rows = run(folders, "resample=true")
    assert [float(row["dice"]) for row in rows] == [1, 1]
    assert [float(row["hd95_pooled_mm"]) for row in rows] == [0, 0]


def test_a_structure_at_the_edge_keeps_its_outermost_half_voxel(folders):
    # 4 fine voxels for each; the centres of the outermost lie beyond the coarse ones'.
    coarse = box((0, 3), (0, 14), (0, 9))
    save(folders[0] / "a.nii.gz", coarse)
    fine, affine = doubled(coarse)
    save(folders[1] / "a.nii.gz", fine, affine)
    assert float(run(folders, "resample=true")[0]["dice"]) == 1


def test_a_turned_affine_is_refused_by_how_far_its_corners_move(folders):
    turned = AFFINE.copy()
    turned[0, 1] += 0.05  # 0.65 mm at the far end of 14 voxels
    save(folders[0] / "a.nii.gz", LABEL, turned)
    save(folders[1] / "a.nii.gz", LABEL)
    with pytest.raises(FdsegError, match=r"different affines, by up to 0.65 mm"):
        run(folders)


def test_an_affine_rounded_by_another_program_is_the_same(folders):
    save(folders[0] / "a.nii.gz", LABEL, AFFINE + 1e-4)
    save(folders[1] / "a.nii.gz", LABEL)
    assert [float(row["dice"]) for row in run(folders)] == [1, 1]


# Faults


def test_all_unusable_pairs_are_reported_at_once_and_nothing_is_written(folders):
    faults = {"a": b"no image", "b": None, "c": None}
    for name in (*faults, "d"):
        save(folders[0] / f"{name}.nii.gz", LABEL)
        save(folders[1] / f"{name}.nii.gz", LABEL)
    (folders[0] / "a.nii.gz").write_bytes(faults["a"])
    save(folders[0] / "b.nii.gz", LABEL[:-1])
    save(folders[1] / "c.nii.gz", LABEL[..., :-2])
    with pytest.raises(FdsegError, match="3 of 4 predictions cannot be compared") as caught:
        run(folders)
    for words in ("a: ", "predictions/a.nii.gz", "b: prediction has shape 11×14×9 but its label",
                  "c: prediction has shape 12×14×9 but its label 12×14×7"):  # fmt: skip
        assert words in str(caught.value)
    assert not list(folders[0].glob("*.csv"))


def test_probabilities_instead_of_labels_are_refused_by_name(folders):
    save(folders[0] / "a.nii.gz", LABEL * np.float32(0.4))
    save(folders[1] / "a.nii.gz", LABEL)
    with pytest.raises(FdsegError, match=r"a: .*predictions/a.nii.gz: .*not whole numbers \(0.4"):
        run(folders)
    assert not list(folders[0].glob("*.csv"))


def test_maps_without_any_structure_are_refused(folders):
    for folder in folders:
        save(folder / "a.nii.gz", np.zeros_like(LABEL))
    with pytest.raises(FdsegError, match="all labels and all predictions are empty"):
        run(folders)


@pytest.mark.parametrize(
    "structures", ["{a: 0}", "{a: 1, b: 1}", "{a: -1}", "{a: 1.5}", "{a: true}", "{a: x}"]
)
def test_values_that_cannot_be_told_apart_are_refused(folders, structures):
    for folder in folders:
        save(folder / "a.nii.gz", LABEL)
    with pytest.raises(FdsegError, match=r"structures=\{a: .*different whole numbers from 1 to"):
        run(folders, f"structures={structures}")


def test_a_table_that_cannot_be_written_names_its_key(folders, tmp_path):
    for folder in folders:
        save(folder / "a.nii.gz", LABEL)
    (tmp_path / "file").write_text("")
    with pytest.raises(FdsegError, match=r"cannot be written .*output=…"):
        run(folders, f"output={tmp_path}/file/table.csv")


@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", ["labels/a", "labels/alone", "predictions/a"])
def test_the_table_does_not_replace_what_is_read(name, link, folders, tmp_path):
    for path in ("predictions/a", "labels/a", "labels/alone"):
        save(tmp_path / f"{path}.nii.gz", LABEL)
    path = output = tmp_path / f"{name}.nii.gz"
    if link:
        output = tmp_path / "table.csv"
        link(output, path)
    before = path.read_bytes()
    with pytest.raises(FdsegError, match=r"which is read|: is read, and would be replaced. Choose"):
        run(folders, f"output={output}")
    assert path.read_bytes() == before == output.read_bytes()


def test_the_table_does_not_replace_a_file_of_a_run(folders, tmp_path):
    for folder in folders:
        save(folder / "a.nii.gz", LABEL)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "cases.csv"):
        (tmp_path / "run" / name).write_text("of the run")
    with pytest.raises(FdsegError, match=rf"cases.csv: belongs to the run {tmp_path}/run, and wou"):
        run(folders, f"output={tmp_path}/run/cases.csv")
    assert (tmp_path / "run" / "cases.csv").read_text() == "of the run"
    for _ in "12":  # its own table it does replace
        assert run(folders, f"output={tmp_path}/run/evaluation.csv")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "predictions=…, labels=…: not given. --help says"),
        (["labels=x"], "predictions=…: not given. --help says"),
        (["predictions=x", "labelz=x"], "labelz: no such key. Did you mean labels"),
        (["predictions=/nowhere", "labels=/nowhere"], "predictions=/nowhere: no such folder"),
    ],
)
def test_a_wrong_word_ends_with_a_remedy_and_status_2(words, message):
    assert_refused(shell("evaluate", *words), message)
