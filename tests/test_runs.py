import errno
import fcntl
import json
import math
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from synthetic import RESULT

from fdseg import runs
from fdseg.errors import FdsegError, NotWritten, not_written


def test_an_identity_does_not_depend_on_the_order_of_keys():
    assert runs.identity({"n": 4, "seed": 0}) == runs.identity({"seed": 0, "n": 4})


def test_an_identity_changes_with_any_value():
    base = {"n": 4, "seed": 0, "data": {"size": [56, 56, 40]}}
    others = [{**base, "n": 5}, {**base, "seed": 1}, {**base, "data": {"size": [56, 40, 56]}}]
    assert len({runs.identity(values) for values in [base, *others]}) == 4


def test_a_run_lies_where_the_design_says(tmp_path):
    folder = runs.run_folder(
        tmp_path, task="heart", backbone="unet", fusion="late", n=4, seed=7, digest="0123abcd"
    )
    assert folder == tmp_path / "heart/unet/late/n4/seed7-0123abcd"


def test_a_file_that_was_not_finished_is_no_result(tmp_path):
    assert runs.read_result(tmp_path) is None
    assert runs.result_fault(tmp_path) == ""
    (tmp_path / "result.json").write_text('{"test": ')
    assert runs.read_result(tmp_path) is None
    assert runs.result_fault(tmp_path) == "result.json is not whole: it is no JSON mapping"
    (tmp_path / "result.json").write_text("[" * 10**5)
    assert runs.read_result(tmp_path) is None
    runs.write_json(tmp_path / "result.json", {})
    assert runs.read_result(tmp_path) is None
    assert runs.result_fault(tmp_path) == "result.json is not whole: task is missing"
    runs.write_json(tmp_path / "result.json", RESULT)
    assert runs.read_result(tmp_path) == RESULT
    assert runs.result_fault(tmp_path) == ""


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    runs.write_json(path, {"old": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runs.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_named_and_what_torch_wrote_of_a_file_goes(small_disk):
    path = small_disk.folder / "checkpoints" / "last.ckpt"
    runs.write_text(path, "old")
    with pytest.raises(NotWritten) as failed, runs.whole(path) as file:
        torch.save({"weights": torch.zeros(100_000)}, file)
    assert str(not_written(failed.value)) == (
        f"{path.parent}: cannot be written (No space left on device; the disk is "
        f"{small_disk.folder}). Free some space, and repeat the command; what is whole stays."
    )
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_by_a_full_disk_is_told_in_the_words_for_a_user(tmp_path):
    try:
        try:
            raise OSError(28, "No space left on device", str(tmp_path / "x" / "best.ckpt"))
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904
    except RuntimeError as error:
        reason = runs.failure(error)["reason"]
    assert reason.startswith(f"{tmp_path}/x: cannot be written (No space left on device; the disk")


@pytest.mark.parametrize(
    "error", [OSError(2, "No such file", "x"), RuntimeError("x"), FdsegError("x: what to do")]
)
def test_other_errors_are_not_taken_for_one_of_writing(error):
    assert not_written(error) is None


def row(case, structure, dice, hd95_mm=1.0, nsd=1.0, missed=False):
    return {
        "case": case, "structure": structure, "dice": dice, "hd95_mm": hd95_mm, "nsd": nsd,
        "missed": missed,
    }  # fmt: skip


def test_mean_and_sem_are_over_subjects_each_the_mean_of_its_structures():
    rows = [
        row("a", "head", 0.9), row("a", "tail", 0.7),
        row("b", "head", 0.6), row("b", "tail", 0.4),
        row("c", "head", 1.0), row("c", "tail", 0.0, missed=True),
    ]  # fmt: skip
    summary = runs.summarise(rows)
    # Subjects 0.8, 0.5, 0.5: mean 0.6, standard deviation √0.03, SEM √0.01.
    assert summary["dice"]["mean"] == pytest.approx(0.6)
    assert summary["dice"]["sem"] == pytest.approx(0.1)
    assert summary["structures"]["head"]["dice"]["mean"] == pytest.approx(2.5 / 3)
    assert summary["structures"]["tail"]["dice"]["sem"] == pytest.approx(
        np.std([0.7, 0.4, 0.0], ddof=1) / math.sqrt(3)
    )
    assert (summary["subjects"], summary["missed"]) == (3, 1)


def test_one_subject_has_no_sem():
    assert runs.summarise([row("a", "head", 0.9)])["dice"] == {"mean": 0.9, "sem": None}


def hold(folder, held):
    with runs.only_process(folder):
        held.set()
        time.sleep(60)


def test_a_second_process_leaves_and_a_killed_owner_lets_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    owner = context.Process(target=hold, args=(tmp_path / "run", held))
    owner.start()
    assert held.wait(60)
    with pytest.raises(FdsegError, match="another process works on this run"):  # noqa: SIM117
        with runs.only_process(tmp_path / "run"):
            pass
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    with runs.only_process(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_an_unwritable_folder_of_runs_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FdsegError, match=r"file/run: the run's folder cannot be written.*runs="):  # noqa: SIM117
        with runs.only_process(tmp_path / "file" / "run"):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_is_no_other_process(number, tmp_path, monkeypatch):
    def no_lock(file, operation):
        raise OSError(number, os.strerror(number))

    folder = tmp_path / "run"
    left = folder / ".last.ckpt.01234567-1-0.partial"  # perhaps of a process at work elsewhere
    folder.mkdir()
    left.touch()
    monkeypatch.setattr(fcntl, "flock", no_lock)
    with (
        pytest.warns(UserWarning, match=rf"{folder}: this file system has no file locks"),
        runs.only_process(folder),
    ):
        assert runs.state(folder).name == "missing"
    assert left.exists()


@pytest.mark.parametrize("number", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_another_process_holds_says_so(number, tmp_path, monkeypatch):
    def held(file, operation):
        raise OSError(number, os.strerror(number))

    with runs.only_process(tmp_path):
        pass
    monkeypatch.setattr(fcntl, "flock", held)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert runs.state(tmp_path).name == "running"
    with (
        pytest.raises(FdsegError, match="another process works on this run"),
        runs.only_process(tmp_path),
    ):
        raise AssertionError("it was not ours")
