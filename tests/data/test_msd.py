import json
import re

import pytest

from fdseg.data.msd import MSDCohort
from fdseg.errors import FdsegError


def find(msd, **options):
    return MSDCohort("Task99_Toy", **options)(msd.root)


def list_entries(msd, entries):
    (msd.folder / "dataset.json").write_text(json.dumps({"training": entries}))


def test_every_listed_case_is_found_in_the_order_of_the_listing(msd):
    cohort = find(msd)
    assert cohort.folder == msd.folder
    assert [case.name for case in cohort.cases] == list(msd.images)
    assert cohort.left_out == {}
    for case in cohort.cases:
        assert case.image == msd.images[case.name]
        assert case.label == msd.labels[case.name]
        assert case.group is None


def test_a_file_that_is_not_listed_is_no_case(msd):
    msd.add("stray", msd.folder / "imagesTr/stray.nii.gz", msd.folder / "labelsTr/stray.nii.gz")
    (msd.folder / "imagesTr" / "._toy_001.nii.gz").write_bytes(b"left by another file system")
    assert len(find(msd).cases) == 10


def test_an_entry_whose_name_begins_with_a_dot_is_no_case(msd):
    entries = json.loads((msd.folder / "dataset.json").read_text())["training"]
    hidden = {"image": "./imagesTr/._toy_001.nii.gz", "label": "./labelsTr/._toy_001.nii.gz"}
    (msd.folder / "imagesTr" / "._toy_001.nii.gz").write_bytes(b"left by another file system")
    list_entries(msd, [hidden, *entries])
    assert [case.name for case in find(msd).cases] == list(msd.images)


def test_an_uncompressed_file_is_named_without_its_ending(msd):
    msd.add("plain", msd.folder / "imagesTr/plain.nii", msd.folder / "labelsTr/plain.nii")
    list_entries(msd, [{"image": "imagesTr/plain.nii", "label": "labelsTr/plain.nii"}])
    assert [case.name for case in find(msd).cases] == ["plain"]


def test_a_listing_with_a_byte_order_mark_is_read(msd):
    listing = msd.folder / "dataset.json"
    listing.write_text("\ufeff" + listing.read_text(), encoding="utf-8")
    assert len(find(msd).cases) == 10


def test_files_that_are_links_to_another_place_are_found(msd, tmp_path):
    elsewhere = tmp_path / "archive.nii.gz"
    msd.images["toy_001"].rename(elsewhere)
    msd.images["toy_001"].symlink_to(elsewhere)
    assert len(find(msd).cases) == 10


def test_without_a_rule_every_file_is_a_participant(msd):
    assert all(case.participant == case.name for case in find(msd).cases)


def test_pairs_make_one_participant_of_files_2k_minus_1_and_2k(msd):
    participants = [case.participant for case in find(msd, participant="pairs").cases]
    assert participants[0::2][:4] == participants[1::2][:4]  # 1 and 2, 3 and 4, …
    assert len(set(participants)) == 6  # 9 and 12 belong to nobody else


def test_a_regular_expression_names_the_participant_by_its_first_group(msd):
    cases = find(msd, participant=r"toy_0(\d)").cases
    assert [case.participant for case in cases] == ["0"] * 9 + ["1"]


@pytest.mark.parametrize("rule", [r"sub-(\d+)", r"toy", r"toy_(x)?"])
def test_a_name_that_the_rule_does_not_fit_is_refused(msd, rule):
    with pytest.raises(FdsegError, match=r"toy_001: data.cohort.participant=.* with one group"):
        find(msd, participant=rule)


def test_a_name_without_a_number_has_no_pair(msd):
    msd.add("odd", msd.folder / "imagesTr/odd.nii.gz", msd.folder / "labelsTr/odd.nii.gz")
    list_entries(msd, [{"image": "imagesTr/odd.nii.gz", "label": "labelsTr/odd.nii.gz"}])
    with pytest.raises(
        FdsegError, match=r"odd: data.cohort.participant=pairs finds no participant"
    ):
        find(msd, participant="pairs")


def test_a_rule_that_is_no_regular_expression_is_refused():
    with pytest.raises(FdsegError, match=r"data.cohort.participant=\(: not a regular expression"):
        MSDCohort("Task99_Toy", participant="(")


def test_a_missing_listing_is_named(msd):
    (msd.folder / "dataset.json").unlink()
    with pytest.raises(FdsegError, match=r"Task99_Toy/dataset.json: missing.*unpack"):
        find(msd)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"training": 3}',
        '{"training": ["toy_001"]}',
        '{"training": [{"image": "imagesTr/toy_001.nii.gz"}]}',
        '{"training": [{"image": 1, "label": 2}]}',
        "\xff\xfe",
        '{"training": ' + "[" * 100_000,
    ],
)
def test_a_malformed_listing_is_named_with_what_belongs_there(msd, text):
    (msd.folder / "dataset.json").write_text(text, encoding="latin-1")
    with pytest.raises(FdsegError, match=r'dataset.json: not a listing of the MSD.*"training" is'):
        find(msd)


@pytest.mark.parametrize("entry", ["../secret.nii.gz", "imagesTr/../../x.nii.gz", "/etc/passwd"])
@pytest.mark.parametrize("kind", ["image", "label"])
def test_an_entry_that_leaves_the_folder_is_refused(msd, entry, kind):
    fine = {"image": "imagesTr/toy_001.nii.gz", "label": "labelsTr/toy_001.nii.gz"}
    list_entries(msd, [fine | {kind: entry}])
    with pytest.raises(FdsegError, match=f"the entry {re.escape(entry)} leaves the folder. Remove"):
        find(msd)


def test_a_listing_that_is_a_folder_is_named(msd):
    (msd.folder / "dataset.json").unlink()
    (msd.folder / "dataset.json").mkdir()
    with pytest.raises(FdsegError, match=r"dataset.json: cannot be read \(Is a directory\)"):
        find(msd)


def test_a_subject_listed_twice_is_refused(msd):
    entry = {"image": "imagesTr/toy_001.nii.gz", "label": "labelsTr/toy_001.nii.gz"}
    list_entries(msd, [entry, entry])
    with pytest.raises(FdsegError, match=r"dataset.json: duplicate subject toy_001. Keep one"):
        find(msd)


def test_a_missing_file_is_named_with_the_remedy(msd):
    msd.labels["toy_003"].unlink()
    with pytest.raises(FdsegError) as caught:
        find(msd)
    assert "toy_003: missing label (labelsTr/toy_003.nii.gz)" in str(caught.value)
    assert "data.exclude=[toy_003]" in str(caught.value)


def test_all_missing_files_are_listed_at_once(msd):
    msd.labels["toy_003"].unlink()
    msd.images["toy_003"].unlink()
    msd.images["toy_007"].unlink()
    with pytest.raises(FdsegError, match="3 files are missing") as caught:
        find(msd)
    for words in ("toy_003: missing image", "toy_003: missing label", "toy_007: missing image"):
        assert words in str(caught.value)


def test_of_very_many_missing_files_some_are_listed_and_the_rest_counted(msd):
    for path in (*msd.images.values(), *msd.labels.values()):
        path.unlink()
    with pytest.raises(FdsegError, match="20 files are missing") as caught:
        find(msd)
    assert str(caught.value).endswith("… and 8 more")


def test_an_excluded_subject_may_miss_its_files(msd):
    msd.labels["toy_003"].unlink()
    cohort = MSDCohort("Task99_Toy")(msd.root, exclude=["toy_003"])
    assert "toy_003" not in [case.name for case in cohort.cases]
    assert cohort.left_out == {"toy_003": "data.exclude"}


def test_a_root_that_does_not_exist_is_named(msd, tmp_path):
    with pytest.raises(FdsegError, match=r"nowhere does not exist.*data.root.*FDSEG_DATA"):
        MSDCohort("Task99_Toy")(tmp_path / "nowhere")


def test_a_root_without_the_cohorts_folder_is_told_what_it_holds(msd):
    with pytest.raises(FdsegError, match=r"Task02_Heart: no such folder .*holds Task99_Toy"):
        MSDCohort("Task02_Heart")(msd.root)


def test_a_root_that_is_the_cohorts_folder_itself_is_told_so(msd):
    with pytest.raises(FdsegError, match=r"holds imagesTr, labelsTr\).*the folder that holds Task"):
        MSDCohort("Task99_Toy")(msd.folder)


@pytest.mark.data
def test_the_real_hippocampus_has_260_cases_of_170_participants(real_data):
    cases = MSDCohort("Task04_Hippocampus", participant="pairs")(real_data).cases
    assert len(cases) == 260
    assert len({case.participant for case in cases}) == 170
