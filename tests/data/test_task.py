import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fdseg.data import task as task_module
from fdseg.data.msd import MSDCohort
from fdseg.data.splits import PARTS, Split
from fdseg.errors import FdsegError


def names(task):
    return [case.name for case in task.found.cases]


def without_structure(files, name):
    files.write_label(name, np.minimum(files.label(name), 1))


def test_a_task_finds_its_cases_and_splits_them(msd, make_task):
    task = make_task()
    assert names(task) == list(msd.images)
    assert [len(getattr(task.subjects, part)) for part in PARTS] == [6, 2, 2]
    assert not task.is_phantom
    assert [case.name for case in task.cases(["toy_012", "toy_002"])] == ["toy_012", "toy_002"]


def test_a_draw_takes_training_cases_only(make_task):
    task = make_task()
    assert set(task.draw(4, seed=1)) < set(task.subjects.training)
    assert task.draw(4, seed=1) == task.draw(4, seed=1)


def test_the_summary_counts_and_lists_who_is_left_out_and_why(msd, make_task):
    without_structure(msd, "toy_005")
    text = make_task(exclude=["toy_001", "toy_012"], unlabelled="leave_out").summary()
    assert text.startswith("toy: 7 cases of 5 participants (")
    assert "left out, data.exclude: toy_001, toy_012" in text
    assert "left out, no voxel of back: toy_005" in text


def test_the_summary_of_a_complete_cohort_lists_nobody(make_task):
    expected = "toy: 10 cases of 6 participants (6 training, 2 validation, 2 test)"
    assert make_task().summary() == expected


def test_a_case_can_be_excluded(msd, make_task):
    task = make_task(exclude=["toy_003"])
    assert names(task) == [name for name in msd.images if name != "toy_003"]
    assert task.found.left_out == {"toy_003": "data.exclude"}


def test_a_case_with_a_missing_file_can_be_excluded_as_its_error_says(msd, make_task):
    msd.labels["toy_003"].unlink()
    with pytest.raises(FdsegError, match=r"toy_003: missing label .*data.exclude=\[toy_003\]"):
        names(make_task())
    assert len(names(make_task(exclude=["toy_003"]))) == 9


def test_a_participant_of_a_bids_cohort_can_be_excluded(iceberg, iceberg_cohort, make_task):
    iceberg.labels["sub-03"].unlink()
    task = make_task(cohort=iceberg_cohort(), root=iceberg.root, exclude=["sub-03"])
    assert task.found.left_out == {"sub-03": "data.exclude"}
    assert len(task.found.cases) == 5


def test_an_unknown_name_to_exclude_is_refused(make_task):
    with pytest.raises(FdsegError, match=r"data.exclude names toy_03, which .*Task99_Toy does not"):
        names(make_task(exclude=["toy_001", "toy_03"]))


def test_cases_without_a_structure_are_left_out_only_when_asked(msd, make_task):
    without_structure(msd, "toy_005")
    assert "toy_005" in names(make_task())
    task = make_task(unlabelled="leave_out")
    assert "toy_005" not in names(task)
    assert task.found.left_out == {"toy_005": "no voxel of back"}


def test_a_broken_label_is_not_left_out_in_silence(msd, make_task):
    msd.labels["toy_005"].write_bytes(b"broken")
    assert "toy_005" in names(make_task(unlabelled="leave_out"))


def test_an_unknown_way_with_the_unlabelled_is_refused(make_task):
    with pytest.raises(FdsegError, match=r"data.unlabelled=skip: expected error or leave_out"):
        names(make_task(unlabelled="skip"))


@pytest.mark.parametrize("root", ["nowhere", "empty", ""])
def test_a_root_without_the_cohort_is_an_error_and_never_the_phantom(
    tmp_path, monkeypatch, make_task, root
):
    def refuse(*_, **__):
        raise AssertionError("the phantom was written")

    monkeypatch.setattr("fdseg.data.phantom.write_phantom", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    task = make_task(root=root and tmp_path / root)
    assert not task.is_phantom
    with pytest.raises(FdsegError, match=r"Task99_Toy: no such folder"):
        names(task)


def test_a_root_may_begin_with_a_tilde(msd, monkeypatch, make_task):
    monkeypatch.setenv("HOME", str(msd.root.parent))
    assert len(names(make_task(root=Path("~") / msd.root.name))) == 10


def test_without_a_root_the_phantom_is_written_with_its_options(msd, monkeypatch, make_task):
    written = []

    def write_phantom(name, folder, **options):
        written.append((name, options))
        shutil.copytree(msd.folder, folder / msd.folder.name, dirs_exist_ok=True)

    monkeypatch.setattr("fdseg.data.phantom.write_phantom", write_phantom)
    task = make_task(root=None, phantom={"scale": 0.5, "seed": 1})
    assert task.is_phantom
    assert len(names(task)) == 10
    assert written == [("toy", {"scale": 0.5, "seed": 1})]


def test_a_phantom_that_cannot_be_written_names_the_key(tmp_path, make_task):
    (tmp_path / "file").write_text("")
    with pytest.raises(FdsegError, match=r"phantom cohort cannot be written .*data.cache=…"):
        names(make_task(root=None, cache=tmp_path / "file" / "cache"))


@pytest.mark.parametrize("structures", [{}, {"a": 0}, {"a": 1, "b": 1}, {"a": 1.0}, {"a": 32768}])
def test_structures_that_cannot_be_told_apart_are_refused(make_task, structures):
    with pytest.raises(FdsegError, match=r"data.structures=\{.*different whole numbers from 1"):
        make_task(structures=structures)


def test_a_file_that_turns_out_to_be_a_folder_is_named(msd, make_task):
    task = make_task()
    assert len(task.found.cases) == 10
    msd.images["toy_003"].unlink()
    msd.images["toy_003"].mkdir()
    with pytest.raises(FdsegError, match=r"imagesTr/toy_003.nii.gz: cannot be read"):
        _ = task.digests


def test_a_split_file_is_used_instead(tmp_path, make_task):
    path = tmp_path / "split.json"
    path.write_text('{"training": ["toy_012"], "validation": ["toy_003"], "test": ["toy_009"]}')
    sizes = {"training": 6, "validation": 2, "test": 2}
    found = make_task(split=sizes | {"by": "participant", "seed": 0, "file": path}).subjects
    assert found == Split(("toy_012",), ("toy_003",), ("toy_009",))


def test_a_split_file_may_part_people_only_by_file(tmp_path, make_task):
    path = tmp_path / "split.json"
    path.write_text('{"training": ["toy_001"], "validation": ["toy_002"], "test": ["toy_003"]}')
    with pytest.raises(FdsegError, match="participant pair1"):
        _ = make_task(split={"file": str(path), "by": "participant"}).subjects
    assert make_task(split={"file": str(path), "by": "file"}).subjects.test == ("toy_003",)


# Digests and fingerprint


def test_digests_follow_the_content_and_not_the_time(msd, make_task):
    before = make_task().digests
    os.utime(msd.images["toy_001"], (1, 1))
    assert make_task().digests == before
    msd.write_image("toy_001", msd.image("toy_001") + 1)
    changed = make_task().digests
    assert {name for name in before if changed[name] != before[name]} == {"toy_001"}


def test_digests_follow_the_label_too(msd, make_task):
    before = make_task().digests
    without_structure(msd, "toy_009")
    assert make_task().digests["toy_009"] != before["toy_009"]


def test_a_change_of_equal_size_whose_time_was_put_back_is_noticed(msd, make_task):
    before, path = make_task().digests, msd.images["toy_001"]
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert make_task().digests["toy_001"] != before["toy_001"]


def test_digests_do_not_depend_on_the_place(msd, make_task, tmp_path):
    moved = shutil.copytree(msd.root, tmp_path / "elsewhere")
    there = make_task(root=moved, cache=tmp_path / "other cache")
    assert there.digests == make_task().digests
    assert there.fingerprint == make_task().fingerprint


def test_files_that_did_not_change_are_read_only_once(make_task, monkeypatch):
    first = make_task().digests

    def refuse(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(task_module, "_sha256", refuse)
    assert make_task().digests == first


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"3", b'"text"', b"\xff\xfe", b"facts of no file"]
)
def test_the_index_of_files_is_only_a_shortcut(msd, make_task, tmp_path, content):
    without_structure(msd, "toy_005")
    expected = make_task(unlabelled="leave_out").digests
    index = tmp_path / "cache" / "files.json"
    assert index.is_file()
    if content is None:
        index.unlink()
    else:
        index.write_bytes(content)
    again = make_task(unlabelled="leave_out")
    assert again.digests == expected
    assert "toy_005" in again.found.left_out
    assert not list(index.parent.glob("*.partial"))


@pytest.mark.parametrize("fact", ["null", "3", "[]", "{}", '{"state": null, "sha256": "wrong"}'])
def test_a_fact_that_is_none_is_found_again(msd, make_task, tmp_path, fact):
    expected = make_task().digests
    path = msd.images["toy_001"].resolve()
    (tmp_path / "cache" / "files.json").write_text(f'{{"{path}": {fact}}}')
    assert make_task().digests == expected


def test_a_cache_that_cannot_be_written_does_not_change_the_digests(make_task, tmp_path):
    (tmp_path / "file").write_text("")
    assert make_task(cache=tmp_path / "file" / "cache").digests == make_task().digests


def test_the_fingerprint_is_the_same_for_the_same_data(make_task, tmp_path):
    assert make_task().fingerprint == make_task(cache=tmp_path / "other cache").fingerprint


def test_the_fingerprint_changes_with_the_content(msd, make_task):
    before = make_task().fingerprint
    msd.write_image("toy_001", msd.image("toy_001") + 1)
    assert make_task().fingerprint != before


def test_the_fingerprint_changes_with_the_split_and_with_exclusion(make_task):
    sizes = {"training": 6, "validation": 2, "test": 2}
    tasks = (
        make_task(),
        make_task(split=sizes | {"seed": 1}),
        make_task(split=sizes | {"by": "file"}),
        make_task(cohort=MSDCohort("Task99_Toy")),
        make_task(exclude=["toy_001"]),
        make_task(exclude=["toy_002"]),
    )
    # Without a rule, each file is a person: the same as a split by file.
    assert tasks[2].fingerprint == tasks[3].fingerprint
    assert len({task.fingerprint for task in tasks}) == len(tasks) - 1
