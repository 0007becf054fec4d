import json
import shutil
from pathlib import Path

import pytest

from fdseg.data.nnunet import NNUNetCohort, split_name
from fdseg.errors import FdsegError


@pytest.fixture
def raw(msd):
    """The tiny cohort as nnU-Net has it: the number of the channel behind the images' names."""
    for path in msd.images.values():
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    content = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "front": 1, "back": 2},
        "numTraining": 10,
        "file_ending": ".nii.gz",
    }
    (msd.folder / "dataset.json").write_text(json.dumps(content))
    return msd


def find(raw, exclude=(), **options):
    return NNUNetCohort("Task99_Toy", **options)(raw.root, exclude)


def add_second_channel(raw):
    for path in sorted((raw.folder / "imagesTr").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))
    listing = raw.folder / "dataset.json"
    content = json.loads(listing.read_text()) | {"channel_names": {"0": "T1", "1": "FLAIR"}}
    listing.write_text(json.dumps(content))


def test_cases_are_named_without_the_channel(raw):
    cases = find(raw).cases
    assert [case.name for case in cases] == sorted(raw.images)
    for case in cases:
        assert case.image.name == f"{case.name}_0000.nii.gz"
        assert case.label == raw.labels[case.name]
        assert case.participant == case.name


def test_a_name_may_end_in_a_number_of_its_own(raw):
    first = raw.folder / "imagesTr" / "toy_001_0000.nii.gz"
    first.rename(first.with_name("toy_2020_0000.nii.gz"))
    raw.labels["toy_001"].rename(raw.labels["toy_001"].with_name("toy_2020.nii.gz"))
    assert "toy_2020" in [case.name for case in find(raw).cases]


def test_participants_follow_the_rule(raw):
    assert len({case.participant for case in find(raw, participant="pairs").cases}) == 6


def test_of_several_channels_one_has_to_be_chosen(raw):
    add_second_channel(raw)
    with pytest.raises(FdsegError, match=r"its channels are 0 T1, 1 FLAIR, .*data.cohort.channel"):
        find(raw)
    cases = find(raw, channel=1).cases
    assert [case.image.name for case in cases] == [f"{n}_0001.nii.gz" for n in sorted(raw.images)]


def test_the_cohort_says_which_channel_it_is(raw):
    assert find(raw).channel == 0
    add_second_channel(raw)
    assert find(raw, channel=1).channel == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("case_012_0001.nii.gz", ("case_012", 1)),
        ("toy_2020_0000.nii", ("toy_2020", 0)),
        ("case_012.nii.gz", ("case_012", None)),
        ("a_00001.nii.gz", ("a_00001", None)),
        ("_0000.nii.gz", ("_0000", None)),
    ],
)
def test_a_name_is_that_of_the_case_and_four_digits_of_the_channel(name, expected):
    assert split_name(Path("in_0009", name)) == expected


def test_a_channel_that_is_not_there_is_refused(raw):
    with pytest.raises(FdsegError, match=r"its channels are 0 T1, and data\.cohort\.channel is 3"):
        find(raw, channel=3)


def test_all_missing_files_are_listed_at_once_and_can_be_left_out(raw):
    raw.labels["toy_003"].unlink()
    (raw.folder / "imagesTr" / "toy_005_0000.nii.gz").unlink()
    with pytest.raises(FdsegError, match="2 files are missing") as caught:
        find(raw)
    assert "toy_003: missing label (labelsTr/toy_003.nii.gz). Restore" in str(caught.value)
    assert "toy_005: missing image (imagesTr/toy_005_0000.nii.gz)" in str(caught.value)
    cohort = find(raw, exclude=["toy_003", "toy_005"])
    assert len(cohort.cases) == 8
    assert cohort.left_out == {"toy_003": "data.exclude", "toy_005": "data.exclude"}


def test_what_another_file_system_left_is_no_case(raw):
    (raw.folder / "imagesTr" / "._toy_001_0000.nii.gz").write_bytes(b"")
    (raw.folder / "labelsTr" / "._toy_001.nii.gz").write_bytes(b"")
    assert len(find(raw).cases) == 10


@pytest.mark.parametrize("text", [None, "{", "[]", '{"channel_names": 3}'])
def test_the_names_of_the_channels_are_not_needed(raw, text):
    listing = raw.folder / "dataset.json"
    listing.unlink() if text is None else listing.write_text(text)
    assert len(find(raw).cases) == 10
    with pytest.raises(FdsegError, match="its channels are 0, and"):
        find(raw, channel=1)
