import re

import pytest

from fdseg.data.iceberg import BIDSCohort
from fdseg.errors import FdsegError


def test_every_participant_is_found_with_its_group(iceberg, iceberg_cohort):
    cohort = iceberg_cohort()(iceberg.root)
    assert [case.name for case in cohort.cases] == list(iceberg.images)
    assert [case.group for case in cohort.cases] == ["HC", "PD", "PD", "iRBD", "HC", "PD"]
    for case in cohort.cases:
        assert case.participant == case.name
        assert case.image == iceberg.images[case.name]
        assert case.label == iceberg.labels[case.name]


def test_without_a_group_column_nobody_has_a_group(iceberg, iceberg_cohort):
    cases = iceberg_cohort(group=None)(iceberg.root).cases
    assert {case.group for case in cases} == {None}


def test_an_asterisk_in_a_pattern_stands_for_anything(iceberg, iceberg_cohort):
    cohort = iceberg_cohort(image="{participant}/*/*_Chimap.nii*")(iceberg.root)
    assert [case.image for case in cohort.cases] == list(iceberg.images.values())


def test_a_pattern_that_fits_several_files_is_ambiguous(iceberg, iceberg_cohort):
    name = "sub-02"
    (iceberg.images[name].parent / f"{name}_run-2_Chimap.nii.gz").write_bytes(b"")
    cohort = iceberg_cohort(image="{participant}/anat/*_Chimap.nii.gz")
    with pytest.raises(FdsegError, match=r"sub-02: 2 files fit as image \(sub-02/anat/\*") as error:
        cohort(iceberg.root)
    assert "Correct data.cohort.image or leave the subject out" in str(error.value)


# Sessions


def into_session(files, name, session):
    """Move a participant's files to where BIDS has them in a session."""
    for paths in (files.images, files.labels):
        path = paths.pop(name)
        target = path.parents[1] / session / "anat" / path.name.replace(name, f"{name}_{session}")
        target.parent.mkdir(parents=True)
        paths[f"{name}_{session}"] = path.rename(target)


@pytest.fixture
def sessions(iceberg):
    """The tree with all volumes in sessions; two participants have two."""
    for name in list(iceberg.images):
        into_session(iceberg, name, "ses-01")
    for name in ("sub-02", "sub-05"):
        anat = iceberg.folder / name / "anat"
        labels = iceberg.folder / "derivatives" / "labels" / name / "anat"
        iceberg.add(name, anat / f"{name}_Chimap.nii.gz", labels / f"{name}_dseg.nii.gz")
        into_session(iceberg, name, "ses-02")
    return iceberg


NAMES = ["sub-01_ses-01", "sub-02_ses-01", "sub-02_ses-02", "sub-03_ses-01", "sub-04_ses-01",
         "sub-05_ses-01", "sub-05_ses-02", "sub-06_ses-01"]  # fmt: skip


@pytest.mark.parametrize(
    "patterns",
    [
        {},
        {"image": "{participant}/*/*_Chimap.nii.gz"},
        {"image": "{participant}/ses-*/anat/*_Chimap.nii.gz"},
        {"image": "sub-*/ses-*/anat/{participant}_ses-*_Chimap.nii.gz"},
        {"label": "derivatives/*/{participant}/anat/{participant}_*dseg.nii.gz"},
        {"label": "derivatives/*/{participant}/*/*/{participant}_ses-*_dseg.nii.gz"},
    ],
)
def test_every_session_is_a_case_of_its_participant(sessions, iceberg_cohort, patterns):
    cases = iceberg_cohort(**patterns)(sessions.root).cases
    assert [case.name for case in cases] == NAMES
    assert {case.name: case.image for case in cases} == sessions.images
    assert {case.name: case.label for case in cases} == sessions.labels
    assert [case.participant for case in cases] == [name[:6] for name in NAMES]
    assert [case.group for case in cases] == ["HC", "PD", "PD", "PD", "iRBD", "HC", "HC", "PD"]


def test_a_pattern_of_one_session_finds_it_under_the_participants_name(sessions, iceberg_cohort):
    patterns = {
        "image": "{participant}/ses-01/anat/{participant}_ses-01_Chimap.nii.gz",
        "label": "derivatives/labels/{participant}/ses-01/anat/{participant}_ses-01_dseg.nii.gz",
    }
    cases = iceberg_cohort(**patterns)(sessions.root).cases
    assert [case.name for case in cases] == [f"sub-0{number}" for number in range(1, 7)]
    for case in cases:
        assert case.image == sessions.images[f"{case.name}_ses-01"]


def test_files_without_sessions_go_before_those_within(iceberg, iceberg_cohort):
    anat = iceberg.folder / "sub-02" / "ses-02" / "anat"
    iceberg.add("x", anat / "sub-02_ses-02_Chimap.nii.gz", anat / "sub-02_ses-02_dseg.nii.gz")
    names = [case.name for case in iceberg_cohort()(iceberg.root).cases]
    assert names == [f"sub-0{number}" for number in range(1, 7)]


def test_a_label_that_names_no_session_is_that_of_the_only_one(sessions, iceberg_cohort):
    name = "sub-01_ses-01"
    place = sessions.folder / "derivatives" / "labels" / "sub-01" / "anat"
    sessions.labels[name] = sessions.labels[name].rename(place / "sub-01_dseg.nii.gz")
    cases = iceberg_cohort()(sessions.root).cases
    assert {case.name: case.label for case in cases} == sessions.labels


def test_a_root_that_is_named_like_a_session_is_none(sessions, iceberg_cohort):
    sessions.root.rename(sessions.root.with_name("ses-07"))
    root = sessions.root.with_name("ses-07")
    (root / "ICEBERG" / "sub-01").rename(root / "sub-01")
    cohort = iceberg_cohort()
    with pytest.raises(FdsegError, match=r"sub-01_ses-01: missing image \(sub-01/ses-01/anat/"):
        cohort(root)
    (root / "sub-01").rename(root / "ICEBERG" / "sub-01")
    assert [case.name for case in cohort(root).cases] == NAMES


def test_what_a_session_lacks_is_named_with_its_pattern(sessions, iceberg_cohort):
    sessions.labels["sub-02_ses-01"].unlink()
    sessions.images["sub-05_ses-02"].unlink()
    twin = sessions.images["sub-03_ses-01"]
    twin.with_name("sub-03_ses-01_run-2_Chimap.nii.gz").write_bytes(b"")
    cohort = iceberg_cohort(image="{participant}/anat/{participant}_*Chimap.nii.gz")
    with pytest.raises(FdsegError, match="3 files are missing or ambiguous") as caught:
        cohort(sessions.root)
    for words in (
        "sub-02_ses-01: missing label (derivatives/labels/sub-02/ses-01/anat/sub-02_ses-01_dseg",
        "sub-05_ses-02: missing image (sub-05/ses-02/anat/sub-05_ses-02_*Chimap.nii.gz)",
        "sub-03_ses-01: 2 files fit as image (sub-03/ses-01/anat/sub-03_ses-01_*Chimap.nii.gz)",
        "data.exclude=[sub-02_ses-01]",
    ):
        assert words in str(caught.value)


def test_a_tree_of_sessions_that_no_pattern_fits_is_told_the_patterns_that_were_tried(
    sessions, iceberg_cohort
):
    with pytest.raises(FdsegError, match="12 files are missing or ambiguous") as caught:
        iceberg_cohort(image="{participant}/swi/T1.nii", label="{participant}_x.nii")(sessions.root)
    assert "sub-01: missing image (sub-01/ses-*/swi/T1.nii)" in str(caught.value)
    assert "sub-01: missing label (sub-01_ses-*_x.nii)" in str(caught.value)


def test_sessions_are_left_out_one_by_one_or_with_their_participant(sessions, iceberg_cohort):
    sessions.labels["sub-05_ses-01"].unlink()
    cohort = iceberg_cohort(unlabelled="leave_out")(sessions.root, ["sub-02", "sub-04_ses-01"])
    assert cohort.left_out == {
        "sub-02": "data.exclude", "sub-04_ses-01": "data.exclude", "sub-05_ses-01": "no label file",
    }  # fmt: skip
    assert [case.name for case in cohort.cases] == [
        name for name in NAMES if name[:6] != "sub-02" and name not in cohort.left_out
    ]


def test_two_participants_cannot_have_a_case_of_the_same_name(sessions, iceberg_cohort):
    name, labels = "sub-02_ses-01", sessions.folder / "derivatives" / "labels"
    sessions.add(
        name,
        sessions.folder / name / "anat" / f"{name}_Chimap.nii.gz",
        labels / name / "anat" / f"{name}_dseg.nii.gz",
    )
    table = sessions.folder / "participants.tsv"
    table.write_text(table.read_text() + f"{name}\t60\tPD\n")
    with pytest.raises(FdsegError, match=f"duplicate subject {re.escape(name)}"):
        iceberg_cohort()(sessions.root)


# Files that are not there, or too many


def test_names_that_begin_with_a_dot_are_no_data(iceberg, iceberg_cohort):
    for path in (*iceberg.images.values(), *iceberg.labels.values()):
        path.with_name(f"._{path.name}").write_bytes(b"left by another file system")
    hidden = iceberg.folder / "derivatives" / ".trash" / "sub-02" / "anat"
    hidden.mkdir(parents=True)
    (hidden / "sub-02_dseg.nii.gz").write_bytes(b"")
    cohort = iceberg_cohort(
        image="{participant}/anat/*_Chimap.nii.gz",
        label="derivatives/*/{participant}/anat/*dseg.nii.gz",
    )
    cases = cohort(iceberg.root).cases
    assert {case.name: case.image for case in cases} == iceberg.images
    assert {case.name: case.label for case in cases} == iceberg.labels


def test_all_missing_files_are_listed_at_once(iceberg, iceberg_cohort):
    iceberg.images["sub-01"].unlink()
    iceberg.labels["sub-04"].unlink()
    with pytest.raises(FdsegError, match="2 files are missing or ambiguous") as caught:
        iceberg_cohort()(iceberg.root)
    assert "sub-01: missing image (sub-01/anat/sub-01_Chimap.nii.gz)" in str(caught.value)
    assert "sub-04: missing label (derivatives/labels/sub-04/" in str(caught.value)
    assert "data.exclude=[sub-04]" in str(caught.value)


def test_an_excluded_participant_may_miss_its_files(iceberg, iceberg_cohort):
    iceberg.images["sub-01"].unlink()
    cohort = iceberg_cohort()(iceberg.root, exclude=["sub-01"])
    assert [case.name for case in cohort.cases] == list(iceberg.images)[1:]
    assert cohort.left_out == {"sub-01": "data.exclude"}


def test_participants_without_a_label_file_are_left_out_when_asked_and_listed(
    iceberg, iceberg_cohort
):
    iceberg.labels["sub-05"].unlink()
    cohort = iceberg_cohort(unlabelled="leave_out")(iceberg.root)
    assert "sub-05" not in [case.name for case in cohort.cases]
    assert cohort.left_out == {"sub-05": "no label file"}


def test_leaving_out_the_unlabelled_still_misses_an_image(iceberg, iceberg_cohort):
    iceberg.images["sub-05"].unlink()
    with pytest.raises(FdsegError, match="sub-05: missing image"):
        iceberg_cohort(unlabelled="leave_out")(iceberg.root)


def test_an_unknown_way_with_the_unlabelled_is_refused(iceberg_cohort):
    with pytest.raises(FdsegError, match=r"data.cohort.unlabelled=skip: expected error or leave_"):
        iceberg_cohort(unlabelled="skip")


@pytest.mark.parametrize(
    "pattern", ["anat/*.nii.gz", "{subject}/anat/*.nii.gz", "/data/{participant}/T1.nii.gz", "{}/x"]
)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_pattern_that_names_no_participant_is_refused(iceberg_cohort, kind, pattern):
    with pytest.raises(FdsegError, match=rf"data.cohort.{kind}=.*{{participant}} stands for"):
        iceberg_cohort(**{kind: pattern})


def test_a_missing_table_of_participants_is_named(iceberg, iceberg_cohort):
    (iceberg.folder / "participants.tsv").unlink()
    with pytest.raises(FdsegError, match=r"ICEBERG/participants.tsv: missing. BIDS needs it"):
        iceberg_cohort()(iceberg.root)


def test_a_missing_group_column_is_named_with_those_that_are_there(iceberg, iceberg_cohort):
    with pytest.raises(FdsegError, match=r"no column diagnosis, only participant_id, age, group"):
        iceberg_cohort(group="diagnosis")(iceberg.root)


@pytest.mark.parametrize(
    "text", ["", "id\tgroup\nsub-01\tHC\n", "participant_id,group\nsub-01,HC\n"]
)
def test_a_table_without_identifiers_is_named(iceberg, iceberg_cohort, text):
    (iceberg.folder / "participants.tsv").write_text(text)
    with pytest.raises(FdsegError, match=r"participants.tsv: no column participant_id.*tabs"):
        iceberg_cohort()(iceberg.root)


def test_a_participant_listed_twice_is_refused(iceberg, iceberg_cohort):
    table = iceberg.folder / "participants.tsv"
    table.write_text(table.read_text() + "sub-03\t61\tPD\n")
    with pytest.raises(FdsegError, match=r"participants.tsv: duplicate subject sub-03"):
        iceberg_cohort()(iceberg.root)


@pytest.mark.parametrize("identifier", ["", "../sub-01", "sub-*", "a/b", "."])
def test_an_identifier_that_cannot_be_in_a_file_name_is_refused(
    iceberg, iceberg_cohort, identifier
):
    table = iceberg.folder / "participants.tsv"
    table.write_text(table.read_text() + f"{identifier}\t61\tPD\n")
    with pytest.raises(FdsegError, match=r"participants.tsv: line 8 has the participant_id"):
        iceberg_cohort()(iceberg.root)


def test_a_table_that_is_not_text_is_named(iceberg, iceberg_cohort):
    (iceberg.folder / "participants.tsv").write_bytes(b"\xff\xfe\x00\x01" * 20)
    with pytest.raises(FdsegError, match=r"participants.tsv: not a tab-separated UTF-8 table"):
        iceberg_cohort()(iceberg.root)


def test_a_table_with_a_byte_order_mark_and_windows_line_ends_is_read(iceberg, iceberg_cohort):
    table = iceberg.folder / "participants.tsv"
    text = "\ufeff" + table.read_text().replace("\n", "\r\n")
    table.write_bytes(text.encode("utf-8"))
    cases = iceberg_cohort()(iceberg.root).cases
    assert [case.group for case in cases] == ["HC", "PD", "PD", "iRBD", "HC", "PD"]


def test_a_root_without_the_cohorts_folder_is_told_what_it_holds(msd):
    cohort = BIDSCohort("ICEBERG", "{participant}.nii.gz", "{participant}_dseg.nii.gz")
    with pytest.raises(FdsegError, match=r"ICEBERG: no such folder .*holds Task99_Toy"):
        cohort(msd.root)
