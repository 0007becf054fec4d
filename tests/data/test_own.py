import json
import shutil
from pathlib import Path

import pytest

from fdseg.data.own import OwnCohort, structures_of, suggest_size, task_name
from fdseg.data.splits import PARTS, make_split
from fdseg.errors import FdsegError


def as_nnunet(msd):
    """The tiny cohort in the layout of nnU-Net."""
    for name, path in msd.images.items():
        msd.images[name] = path.rename(path.with_name(f"{name}_0000.nii.gz"))
    labels = {"background": 0, "front": 1, "back": 2}
    (msd.folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def test_the_layout_of_the_msd_is_recognised(msd):
    cases = OwnCohort(participant="pairs")(msd.folder).cases
    assert [case.name for case in cases] == list(msd.images)
    assert len({case.participant for case in cases}) == 6


def test_the_layout_of_nnunet_is_recognised(msd):
    as_nnunet(msd)
    cases = OwnCohort(participant="pairs")(msd.folder).cases
    assert {case.name: case.image for case in cases} == msd.images
    assert len({case.participant for case in cases}) == 6
    assert OwnCohort()(msd.folder).channel == 0


def test_other_layouts_have_no_channels(msd, iceberg):
    assert OwnCohort(channel=0)(msd.folder).channel is None
    assert OwnCohort(channel=0)(iceberg.folder).channel is None


def test_the_layout_of_bids_is_recognised(iceberg):
    cases = OwnCohort(group="group")(iceberg.folder).cases
    assert {case.name: case.image for case in cases} == iceberg.images
    assert {case.name: case.label for case in cases} == iceberg.labels
    assert [case.group for case in cases] == ["HC", "PD", "PD", "iRBD", "HC", "PD"]


def test_sessions_of_bids_are_found_by_the_patterns_it_has_by_itself(iceberg):
    for files in (iceberg.images, iceberg.labels):
        for name, path in files.items():
            for session in ("ses-a", "ses-b"):
                place = path.parents[1] / session / "anat"
                place.mkdir(parents=True)
                shutil.copy(path, place / path.name.replace(name, f"{name}_{session}"))
            path.unlink()
    cases = OwnCohort()(iceberg.folder).cases
    assert [case.name for case in cases] == [
        f"{name}_{session}" for name in iceberg.images for session in ("ses-a", "ses-b")
    ]
    split = make_split(cases, training=6, validation=2, test=4)
    people = [{name.split("_")[0] for name in getattr(split, part)} for part in PARTS]
    assert list(map(len, people)) == [3, 1, 2]
    assert len(set.union(*people)) == 6


def numbered(msd, images=True, labels=True):
    """The tiny cohort with names that end as nnU-Net's, ``scan_0000`` to ``scan_0009``."""
    for number, name in enumerate(list(msd.images)):
        for paths, renamed in ((msd.images, images), (msd.labels, labels)):
            path = paths.pop(name)
            target = path.with_name(f"scan_{number:04}.nii.gz") if renamed else path
            paths[f"scan_{number:04}"] = path.rename(target)
    return {f"scan_{number:04}" for number in range(10)}


def list_files(msd):
    entries = [
        {"image": f"./imagesTr/{msd.images[n].name}", "label": f"./labelsTr/{msd.labels[n].name}"}
        for n in msd.images
    ]
    (msd.folder / "dataset.json").write_text(json.dumps({"training": entries}))


def test_names_of_the_msd_may_end_like_channels(msd):
    names = numbered(msd)
    list_files(msd)
    assert {case.name for case in OwnCohort()(msd.folder).cases} == names


def test_labels_of_the_images_full_names_are_the_msds_whatever_it_lists(msd):
    numbered(msd)
    with pytest.raises(FdsegError, match=r"missing image \(imagesTr/toy_001.nii.gz\)"):
        OwnCohort()(msd.folder)


def test_a_listing_that_names_the_very_files_is_the_msds(msd):
    names = numbered(msd, labels=False)
    list_files(msd)
    assert {case.name: case.image for case in OwnCohort()(msd.folder).cases} == msd.images
    assert set(msd.images) == names
    # A channel that is asked for is nnU-Net's, whatever is listed.
    with pytest.raises(FdsegError, match="its channels are 0, 1, 2"):
        OwnCohort(channel=12)(msd.folder)


def test_a_listing_of_nnunets_names_no_file(msd):
    as_nnunet(msd)
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"}
               for n in msd.images]  # fmt: skip
    (msd.folder / "dataset.json").write_text(json.dumps({"training": entries}))
    assert {case.name: case.image for case in OwnCohort()(msd.folder).cases} == msd.images


def test_a_case_of_nnunet_may_be_named_like_another_ones_image(msd):
    as_nnunet(msd)
    names = ("toy", "toy_0000")  # their images are toy_0000 and toy_0000_0000
    for old, new in zip(("toy_001", "toy_002"), names, strict=True):
        msd.images[new] = msd.images.pop(old).rename(msd.folder / f"imagesTr/{new}_0000.nii.gz")
        msd.labels[new] = msd.labels.pop(old).rename(msd.folder / f"labelsTr/{new}.nii.gz")
    assert {case.name: case.image for case in OwnCohort()(msd.folder).cases} == msd.images


def test_names_that_begin_with_a_dot_do_not_make_a_layout(msd):
    (msd.folder / "imagesTr" / "._toy_001_0000.nii.gz").write_bytes(b"left by another file system")
    assert [case.name for case in OwnCohort()(msd.folder).cases] == list(msd.images)


def test_patterns_of_bids_can_be_given(iceberg):
    cohort = OwnCohort(
        "{participant}/*/*_Chimap.nii.gz", "derivatives/labels/{participant}/*/*_dseg.nii.gz"
    )
    assert len(cohort(iceberg.folder).cases) == 6


def test_patterns_go_before_a_layout(msd):
    (msd.folder / "dataset.json").write_text("{}")
    cohort = OwnCohort("imagesTr/{case}.nii.gz", "labelsTr/{case}.nii.gz")
    assert len(cohort(msd.folder).cases) == 10


def test_excluded_cases_are_left_out_in_every_layout(msd, iceberg):
    assert OwnCohort()(msd.folder, ["toy_003"]).left_out == {"toy_003": "data.exclude"}
    assert OwnCohort()(iceberg.folder, ["sub-02"]).left_out == {"sub-02": "data.exclude"}


def test_a_relative_folder_is_one_below_the_current(msd, monkeypatch):
    monkeypatch.chdir(msd.folder)
    assert len(OwnCohort()(".").cases) == 10


def test_an_unknown_layout_is_told_what_it_lacks_and_what_to_write(msd):
    (msd.folder / "dataset.json").unlink()
    with pytest.raises(FdsegError, match=r"no known layout. .* but imagesTr, labelsTr. Say where"):
        OwnCohort()(msd.folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FdsegError, match=r"data.folder=.*nowhere: no such folder"):
        OwnCohort()(tmp_path / "nowhere")


@pytest.mark.parametrize("patterns", [{"image": "{case}.nii"}, {"label": "{case}.nii"}])
def test_one_pattern_alone_is_refused(patterns):
    with pytest.raises(FdsegError, match="give both patterns, or neither"):
        OwnCohort(**patterns)


# Structures


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "Anterior", "2": "left atrium "},
        {"background": 0, "Anterior": 1, "left atrium": 2},
        {"background": 0, "Anterior": 1, "left atrium": 2, "ignore": 3},
    ],
)
def test_structures_are_those_that_the_listing_names(tmp_path, labels):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert structures_of(tmp_path) == {"Anterior": 1, "left_atrium": 2}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"labels": 3}', '{"labels": {"whole": [1, 2], "core": 2}}',
     '{"labels": {"a": "b"}}', '{"labels": {"1": 2}}', '{"labels": {"a": null}}',
     '{"labels": ' + "[" * 100_000],
)  # fmt: skip
def test_structures_without_one_value_each_have_to_be_given(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(FdsegError, match=r"data.structures: not given, .*data.structures=\{name"):
        structures_of(tmp_path)


def test_without_a_listing_structures_have_to_be_given(tmp_path):
    with pytest.raises(FdsegError, match=r"dataset.json is missing. Give them with"):
        structures_of(tmp_path)


def test_a_folder_names_its_task(tmp_path):
    assert task_name(tmp_path / "My tumours, 2024") == "My_tumours_2024"
    assert task_name(Path("/")) == "own"


def test_the_suggested_grid_is_that_of_the_volumes_in_eighths(msd):
    assert suggest_size(msd.cases()) == [8, 16, 8]  # of 10×13×8 voxels


def test_the_suggested_grid_is_no_larger_than_a_network_can_have(msd, monkeypatch):
    monkeypatch.setattr("fdseg.data.own._canonical_shape", lambda _: [512, 512, 100])
    size = suggest_size(msd.cases())
    assert size == [256, 256, 48]
