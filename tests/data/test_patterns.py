import re
import shutil

import pytest

from fdseg.data.patterns import PatternCohort
from fdseg.errors import FdsegError

IMAGE, LABEL = "imagesTr/{case}.nii.gz", "labelsTr/{case}.nii.gz"


def find(msd, image=IMAGE, label=LABEL, exclude=(), **options):
    return PatternCohort("Task99_Toy", image, label, **options)(msd.root, exclude)


def move(msd, image, label):
    """Lay the tiny cohort out by two other patterns."""
    for name in msd.images:
        for paths, pattern in ((msd.images, image), (msd.labels, label)):
            target = msd.folder / pattern.replace("{case}", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            paths[name] = paths[name].rename(target)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (IMAGE, LABEL),
        ("scans/{case}.nii.gz", "scans/{case}_seg.nii.gz"),
        ("scans/{case}_t1.nii.gz", "scans/{case}_label.nii.gz"),
        ("{case}/t1.nii.gz", "{case}/label.nii.gz"),
        ("{case}/{case}_t1.nii.gz", "masks/of-{case}.nii.gz"),
        ("site.a/T1 {case} (1).nii.gz", "site.a/[{case}].nii.gz"),
    ],
)
def test_any_layout_is_found_by_two_patterns(msd, image, label):
    move(msd, image, label)
    cases = find(msd, image, label).cases
    assert {case.name: (case.image, case.label) for case in cases} == {
        name: (msd.images[name], msd.labels[name]) for name in msd.images
    }
    assert all(case.participant == case.name for case in cases)


def test_an_asterisk_stands_for_anything_but_a_folder(msd):
    assert len(find(msd, "imag*/{case}.n*", "*lsTr/{case}.*.gz").cases) == 10
    with pytest.raises(FdsegError, match="no file fits"):
        find(msd, "imag*{case}.nii.gz")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (IMAGE, LABEL),
        ("imag*/{case}.nii.gz", "lab*/{case}.n*"),
        ("{case}/t1.nii.gz", "{case}/label.nii.gz"),
    ],
)
def test_names_that_begin_with_a_dot_are_no_data(msd, image, label):
    if image.startswith("{"):
        move(msd, image, label)
    for path in (*msd.images.values(), *msd.labels.values()):
        path.with_name(f"._{path.name}").write_bytes(b"left by another file system")
        hidden = msd.folder / f".{path.parent.name}" / path.name
        hidden.parent.mkdir(exist_ok=True)
        shutil.copy(path, hidden)
    cohort = find(msd, image, label, unlabelled="leave_out")
    assert {case.image for case in cohort.cases} == set(msd.images.values())
    assert {case.label for case in cohort.cases} == set(msd.labels.values())
    assert cohort.left_out == {}
    with pytest.raises(FdsegError, match=r"no file fits .*names that begin with a dot do"):
        find(msd, ".imagesTr/{case}.nii.gz")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_pattern_that_fits_volumes_and_labels_is_ambiguous(msd, kind):
    with pytest.raises(FdsegError, match=rf"10 files are .*(?s:.*)toy_001: 2 files fit as {kind}"):
        find(msd, **{kind: "*/{case}.nii.gz"})


def test_participants_follow_the_rule(msd):
    assert len({case.participant for case in find(msd, participant="pairs").cases}) == 6


def test_a_name_that_stands_twice_in_a_pattern_is_the_same_name(msd):
    move(msd, "{case}/{case}.nii.gz", LABEL)
    stray = msd.images["toy_001"].with_name("toy_002.nii.gz")
    shutil.copy(msd.images["toy_001"], stray)
    assert len(find(msd, "{case}/{case}.nii.gz").cases) == 10


def test_all_that_is_missing_or_ambiguous_is_listed_at_once(msd):
    msd.labels["toy_003"].unlink()
    shutil.copy(msd.labels["toy_005"], msd.folder / "labelsTr" / "toy_005.nii")
    with pytest.raises(FdsegError, match="2 files are missing or ambiguous") as caught:
        find(msd, label="labelsTr/{case}.nii*")
    assert "toy_003: missing label (labelsTr/toy_003.nii*). Correct" in str(caught.value)
    assert "toy_005: 2 files fit as label" in str(caught.value)
    assert "data.exclude=[toy_003]" in str(caught.value)


def test_volumes_without_a_label_are_left_out_when_asked_and_listed(msd):
    msd.labels["toy_003"].unlink()
    cohort = find(msd, unlabelled="leave_out")
    assert len(cohort.cases) == 9
    assert cohort.left_out == {"toy_003": "no label file"}


def test_an_excluded_case_may_miss_its_label(msd):
    msd.labels["toy_003"].unlink()
    cohort = find(msd, exclude=["toy_003"])
    assert cohort.left_out == {"toy_003": "data.exclude"}
    assert len(cohort.cases) == 9


def test_a_pattern_that_fits_nothing_is_named(msd):
    with pytest.raises(FdsegError, match=r"no file fits data.cohort.image=scans/\{case\}.nii.gz"):
        find(msd, image="scans/{case}.nii.gz")


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize(
    "pattern",
    ["scan.nii.gz", "{name}.nii.gz", "{case}/{name}.nii.gz", "/{case}.nii.gz", "../{case}.nii.gz",
     "**/{case}.nii.gz", "{}.nii.gz"],
)  # fmt: skip
def test_a_pattern_that_is_none_is_refused(kind, pattern):
    patterns = {"image": IMAGE, "label": LABEL} | {kind: pattern}
    with pytest.raises(FdsegError, match=rf"data.cohort.{kind}={re.escape(pattern)}: expected a"):
        PatternCohort("Task99_Toy", **patterns)


def test_an_unknown_way_with_the_unlabelled_is_refused():
    with pytest.raises(FdsegError, match=r"data.cohort.unlabelled=skip: expected error or leave"):
        PatternCohort("Task99_Toy", IMAGE, LABEL, unlabelled="skip")
