"""What killed processes leave beside the files that they wrote, and when it goes."""

import multiprocessing
import os
import time

import pytest
from commands import abandoned

from fdseg import drafts, runs
from fdseg.data.phantom import write_phantom
from fdseg.drafts import draft, remove_abandoned


@pytest.fixture(autouse=True)
def another_process():
    """Each test begins as a process does, that has written nothing yet."""
    drafts._remove_once.cache_clear()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def elsewhere(path):
    """The draft of a process on another machine, with the number of one that runs on this one."""
    left = path.with_name(f".{path.name}.0123abcd-{os.getppid()}-0.partial")
    left.write_bytes(b"half of it")
    return left


@pytest.mark.parametrize("name", ["network.onnx", "case.1.nii.gz"])
def test_the_next_write_in_a_folder_removes_what_a_killed_process_left(tmp_path, name):
    abandoned(tmp_path / name)
    runs.write_text(tmp_path / "other.txt", "text")
    assert names(tmp_path) == ["other.txt"]


def hold(path, held, done):
    with draft(path) as partial:
        partial.write_bytes(b"half of it")
        held.set()
        done.wait(60)


@pytest.mark.parametrize("locked", [False, True])
def test_what_another_process_is_writing_stays(tmp_path, locked):
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    writer = context.Process(target=hold, args=(tmp_path / "table.csv", held, done), daemon=True)
    writer.start()
    assert held.wait(60)
    (left,) = tmp_path.iterdir()
    remove_abandoned(tmp_path, locked)
    assert list(tmp_path.iterdir()) == [left]
    done.set()
    writer.join(60)
    assert not list(tmp_path.iterdir())


def test_of_another_machine_an_old_one_goes_and_in_a_locked_folder_any(tmp_path):
    left = elsewhere(tmp_path / "best.ckpt")
    remove_abandoned(tmp_path)
    assert left.is_file()
    hour_ago, days_ago = time.time() - 3600, time.time() - 2 * 86400
    os.utime(left, (hour_ago, hour_ago))
    remove_abandoned(tmp_path)
    assert left.is_file()
    os.utime(left, (days_ago, days_ago))
    remove_abandoned(tmp_path)
    assert not left.exists()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    left = elsewhere(tmp_path / "run" / "checkpoints" / "best.ckpt")
    with runs.only_process(tmp_path / "run"):
        assert not left.exists()


def test_whoever_locks_a_run_removes_all_that_a_killed_process_left_in_it(tmp_path):
    left = [abandoned(tmp_path / "run" / path) for path in ("result.json", "checkpoints/best.ckpt")]
    with runs.only_process(tmp_path / "run"):
        assert not any(path.exists() for path in left)


def test_other_files_with_such_an_ending_stay(tmp_path):
    others = [".Task04_Hippocampus.tar.partial", "x.0123abcd-4-5.partial", ".x.77.partial"]
    for name in others:
        (tmp_path / name).write_bytes(b"a download goes on from what it has")
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path, locked=True)
    assert names(tmp_path) == sorted(others)


def test_two_drafts_of_one_path_are_two_files(tmp_path):
    with draft(tmp_path / "x") as one, draft(tmp_path / "x") as other:
        one.write_text("one")
        other.mkdir()
        (other / "y").write_text("other")
    assert not list(tmp_path.iterdir())


def test_a_phantom_is_written_where_a_killed_process_began_one(tmp_path):
    abandoned(tmp_path / "Task02_Heart")
    write_phantom("heart", tmp_path, scale=0.05, subjects=1)
    assert names(tmp_path) == ["Task02_Heart"]
