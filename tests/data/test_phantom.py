import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fdseg.data.phantom import canvas, cohorts, write_phantom
from fdseg.errors import FdsegError

# Task, a scale at which its structures can be measured, and their volumes in mm³.
TASKS = {
    "red_nucleus": (0.5, {1: (500, 1300)}),
    "dentate_nucleus": (0.5, {2: (1800, 4800)}),
    "spleen": (0.2, {1: (90_000, 330_000)}),
    "heart": (0.25, {1: (50_000, 130_000)}),
    "hippocampus": (1.0, {1: (1000, 2600), 2: (900, 2600)}),
}
# Plausible medians of a structure where the modality has a unit: ppm and HU.
UNITS = {"red_nucleus": (0.06, 0.25), "dentate_nucleus": (0.04, 0.2), "spleen": (80, 160)}


def images_of(cohort: Path) -> list[Path]:
    return sorted([*cohort.glob("imagesTr/*.nii.gz"), *cohort.glob("sub-*/anat/*.nii.gz")])


def label_of(image: Path) -> Path:
    if image.parent.name == "imagesTr":
        return image.parents[1] / "labelsTr" / image.name
    name = image.name.replace("Chimap", "dseg")
    return image.parents[2] / "derivatives" / "labels" / image.parents[1].name / "anat" / name


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory):
    """The first three participants of a task's cohort, written once."""
    made: dict[str, Path] = {}

    def make(task: str) -> Path:
        name = cohorts.COHORTS[task].folder
        if name not in made:
            folder = tmp_path_factory.mktemp("phantom")
            made[name] = write_phantom(task, folder, scale=TASKS[task][0], subjects=3)
        return made[name]

    return make


@pytest.mark.parametrize("task", TASKS)
def test_every_image_has_a_label_on_its_grid(task, sample):
    images = images_of(sample(task))
    assert len(images) >= 3
    for path in images:
        image, label = nib.load(path), nib.load(label_of(path))
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert label.get_data_dtype() == np.uint8
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        assert image.header.get_xyzt_units()[0] == "mm"
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_structures_have_a_plausible_volume_and_are_not_cut(task, sample):
    for path in images_of(sample(task)):
        label = nib.load(label_of(path))
        for structure, (least, most) in TASKS[task][1].items():
            mask = np.asarray(label.dataobj) == structure
            assert least < mask.sum() * np.prod(label.header.get_zooms()) < most
            for k in range(3):
                assert not np.take(mask, [0, -1], axis=k).any()


@pytest.mark.parametrize("task", TASKS)
def test_intensities_are_plausible(task, sample):
    for path in images_of(sample(task)):
        image, label = voxels(path).astype(float), voxels(label_of(path))
        assert np.isfinite(image).all()
        if task in UNITS:
            least, most = UNITS[task]
            assert least < np.median(image[label == max(TASKS[task][1])]) < most
        if task == "spleen":
            assert image.min() >= -1024
            assert 300 < image.max() <= 3071
        elif "nucleus" not in task:
            assert image.min() >= 0


@pytest.mark.parametrize("task", TASKS)
def test_no_global_threshold_finds_a_structure(task, sample):
    for path in images_of(sample(task)):
        image, label = voxels(path), voxels(label_of(path))
        for structure in TASKS[task][1]:
            mask = label == structure
            for cut in np.quantile(image, np.linspace(0, 1, 101) ** 0.3):
                for guess in (image > cut, image < cut):
                    assert 2 * (guess & mask).sum() < 0.5 * (guess.sum() + mask.sum())


@pytest.mark.parametrize("task", ["red_nucleus", "spleen", "heart", "hippocampus"])
def test_equal_arguments_write_equal_bytes_and_others_do_not(task, tmp_path):
    first, again, other = (
        contents(write_phantom(task, tmp_path / name, scale=0.12, seed=seed, subjects=2))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    image = next(name for name in first if "imagesTr" in name or "Chimap" in name)
    assert first[image] != other.get(image)


@pytest.mark.parametrize("task", ["red_nucleus", "spleen", "heart", "hippocampus"])
def test_a_subject_does_not_depend_on_how_many_there_are(task, tmp_path):
    few = contents(write_phantom(task, tmp_path / "few", scale=0.12, subjects=1))
    more = contents(write_phantom(task, tmp_path / "more", scale=0.12, subjects=3))
    assert all(more[name] == data for name, data in few.items() if name.endswith("nii.gz"))
    assert len(more) > len(few)


@pytest.mark.parametrize("task", ["red_nucleus", "spleen", "heart", "hippocampus"])
def test_scale_changes_the_voxels_but_neither_field_of_view_nor_anatomy(task, tmp_path):
    coarse, fine = (
        images_of(write_phantom(task, tmp_path / str(s), scale=s, subjects=1))[0]
        for s in (0.25, 0.4)
    )
    corners, centroids = [], []
    for path in (coarse, fine):
        label = nib.load(label_of(path))
        ends = np.array([[-0.5] * 3, np.subtract(label.shape, 0.5)])
        corners.append(nib.affines.apply_affine(label.affine, ends))
        inside = np.argwhere(np.asarray(label.dataobj) > 0)
        centroids.append(nib.affines.apply_affine(label.affine, inside.mean(0)))
    np.testing.assert_allclose(*corners, atol=0.01)
    np.testing.assert_allclose(*centroids, atol=max(nib.load(coarse).header.get_zooms()) / 2)
    assert nib.load(coarse).shape < nib.load(fine).shape


def test_painting_rows_by_rows_gives_the_whole_volume(monkeypatch):
    grid = canvas.Grid((35, 50, 36), (1.0, 1.0, 1.0)).scaled(0.5)
    traits = {"size": 1.0, "cut_mm": 3.0, "sigma": 0.05}
    whole = canvas.render(cohorts.temporal_lobe, grid, [1], **traits)
    monkeypatch.setattr(canvas, "SLAB_VOXELS", 2000)
    for slabs, at_once in zip(
        canvas.render(cohorts.temporal_lobe, grid, [1], **traits), whole, strict=True
    ):
        np.testing.assert_array_equal(slabs, at_once)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_iceberg_has_the_papers_groups_and_artefacts(seed):
    people = cohorts.deal(cohorts.GROUPS, seed)
    assert Counter(group for group, _ in people) == {"HC": 18, "PD": 46, "iRBD": 16}
    assert Counter(g for g, artefact in people if artefact) == {"HC": 1, "PD": 7, "iRBD": 5}
    assert Counter(g for g, artefact in people if not artefact) == {"HC": 17, "PD": 39, "iRBD": 11}
    assert 2 <= sum(artefact for _, artefact in people[:20]) <= 5  # its share of 20 is 3.25


def test_the_whole_iceberg_tree_is_there(tmp_path):
    folder = write_phantom("dentate_nucleus", tmp_path, scale=0.12)
    assert folder == tmp_path / "ICEBERG"
    rows = (folder / "participants.tsv").read_text().splitlines()
    assert rows[0] == "participant_id\tgroup"
    assert Counter(row.split("\t")[1] for row in rows[1:]) == {"HC": 18, "PD": 46, "iRBD": 16}
    for row, path in zip(rows[1:], images_of(folder), strict=True):
        name = row.split("\t")[0]
        assert path == folder / name / "anat" / f"{name}_Chimap.nii.gz"
    dentate = [(voxels(label_of(path)) == 2).any() for path in images_of(folder)]
    assert sum(dentate) == 67
    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["Name"].endswith("synthetic phantom")
    assert description["DatasetType"] == "raw"
    labels = folder / "derivatives" / "labels"
    assert json.loads((labels / "dataset_description.json").read_text())["DatasetType"]
    assert (labels / "dseg.tsv").read_text().splitlines()[1:] == [
        "1\tred nucleus",
        "2\tdentate nucleus",
    ]


@pytest.mark.parametrize(
    ("task", "folder", "files", "names", "modality"),
    [
        ("spleen", "Task09_Spleen", 41, ("spleen_01", "spleen_41"), "CT"),
        ("heart", "Task02_Heart", 20, ("la_001", "la_020"), "MRI"),
        ("hippocampus", "Task04_Hippocampus", 260, ("hippocampus_001", None), "MRI"),
    ],
)
def test_the_whole_msd_task_is_there(task, folder, files, names, modality, tmp_path):
    cohort = write_phantom(task, tmp_path, scale=0.08)
    assert cohort == tmp_path / folder
    dataset = json.loads((cohort / "dataset.json").read_text())
    assert "ynthetic phantom" in dataset["description"]
    assert dataset["modality"] == {"0": modality}
    assert dataset["numTraining"] == len(dataset["training"]) == len(images_of(cohort)) == files
    assert dataset["numTest"] == 0
    for case in dataset["training"]:
        assert (cohort / case["image"]).is_file()
        assert (cohort / case["label"]).is_file()
    assert (cohort / f"imagesTr/{names[0]}.nii.gz").is_file()
    assert names[1] is None or (cohort / f"imagesTr/{names[1]}.nii.gz").is_file()
    people = (
        Counter((int(p.name[12:15]) + 1) // 2 for p in images_of(cohort)) if files == 260 else {}
    )
    assert Counter(people.values()) == ({2: 90, 1: 80} if files == 260 else {})


def test_native_sizes_are_those_of_the_real_cohorts(monkeypatch, tmp_path):
    shapes: dict[str, set] = {}

    def blank(anatomy, grid, key, **traits):
        shapes.setdefault(anatomy.__name__, set()).add((grid.shape, grid.spacing_mm))
        return np.ones((2, 2, 2), np.float32), np.ones((2, 2, 2), np.uint8)

    monkeypatch.setattr(cohorts, "render", blank)
    for task in ("red_nucleus", "spleen", "heart", "hippocampus"):
        write_phantom(task, tmp_path, scale=1.0)
    assert shapes["brain"] == {((160, 160, 128), (1, 1, 1))}
    assert all(n[:2] == (512, 512) and 60 <= n[2] <= 110 for n, _ in shapes["abdomen"])
    assert all(0.7 <= s[0] == s[1] <= 0.9 and 2.5 <= s[2] <= 5 for _, s in shapes["abdomen"])
    assert all(n[:2] == (320, 320) and 90 <= n[2] <= 130 for n, _ in shapes["chest"])
    crops = np.array([n for n, _ in shapes["temporal_lobe"]])
    assert (crops.min(0) >= (31, 40, 24)).all()
    assert (crops.max(0) <= (43, 59, 47)).all()


def test_two_sides_of_a_person_share_their_intensities_and_fit_the_network(tmp_path):
    cohort = write_phantom("hippocampus", tmp_path, scale=1.0, subjects=24)
    peaks: dict[int, list[float]] = {}
    for path in images_of(cohort):
        peaks.setdefault((int(path.name[12:15]) + 1) // 2, []).append(np.median(voxels(path)))
        label = voxels(label_of(path))
        first = np.maximum(0, np.subtract(label.shape, (56, 56, 40)) // 2)
        kept = label[tuple(slice(a, a + n) for a, n in zip(first, (56, 56, 40), strict=True))]
        assert (kept > 0).sum() == (label > 0).sum()
    pairs = np.log10([p for p in peaks.values() if len(p) == 2])
    assert len(pairs) > 5
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max() < np.log10(1.25)
    assert np.std(pairs[:, 0]) > 0.5


def test_a_failure_leaves_nothing_and_the_next_run_works(monkeypatch, tmp_path):
    good = cohorts.render

    def bad(anatomy, grid, key, **traits):
        if key[-1] == 2:
            raise OSError("disk full")
        return good(anatomy, grid, key, **traits)

    monkeypatch.setattr(cohorts, "render", bad)
    with pytest.raises(OSError, match="disk full"):
        write_phantom("heart", tmp_path, scale=0.1, subjects=3)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert len(images_of(write_phantom("heart", tmp_path, scale=0.1, subjects=3))) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["Task02_Heart"]


def test_the_first_of_two_writers_wins(monkeypatch, tmp_path):
    describe = cohorts.COHORTS["heart"].describe
    other = write_phantom("heart", tmp_path / "other", scale=0.1, subjects=1)

    def slow(draft, people, record):
        describe(draft, people, record)
        other.rename(tmp_path / "Task02_Heart")

    entry = cohorts.Cohort("Task02_Heart", {4: 1}, cohorts.COHORTS["heart"].save, slow)
    monkeypatch.setitem(cohorts.COHORTS, "heart", entry)
    cohort = write_phantom("heart", tmp_path, scale=0.1, subjects=1)
    assert (cohort / "dataset.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Task02_Heart", "other"]


def test_a_cohort_that_is_there_is_returned_untouched(monkeypatch, tmp_path):
    cohort = write_phantom("heart", tmp_path, scale=0.1, subjects=1)
    monkeypatch.setattr(cohorts, "render", None)
    assert write_phantom("heart", tmp_path, scale=0.1, subjects=1) == cohort


def test_another_cohort_in_the_place_is_neither_used_nor_harmed(tmp_path):
    before = contents(write_phantom("heart", tmp_path, scale=0.1, subjects=1))
    with pytest.raises(FdsegError, match=r"Task02_Heart: here is the phantom .*0\.1.*0\.2"):
        write_phantom("heart", tmp_path, scale=0.2, subjects=1)
    assert contents(tmp_path / "Task02_Heart") == before
    (tmp_path / "Task02_Heart" / "dataset.json").write_text('{"name": "LeftAtrium"}')
    with pytest.raises(FdsegError, match="no phantom"):
        write_phantom("heart", tmp_path, scale=0.1, subjects=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "liver", "scale": 1.0}, r"task='liver'.*red_nucleus.*hippocampus"),
        ({"task": "heart", "scale": 0.0}, r"scale=0\.0"),
        ({"task": "heart", "scale": 1.5}, r"scale=1\.5"),
        ({"task": "heart", "scale": 0.5, "subjects": 0}, r"subjects=0"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message, tmp_path):
    with pytest.raises(FdsegError, match=message):
        write_phantom(folder=tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []
