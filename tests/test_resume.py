"""A run that is killed, stopped or fails goes on, in the end, as if nothing had happened."""

import json
import math
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch
from commands import table, trained
from monai.losses import DiceLoss

from fdseg import runs
from fdseg.errors import FdsegError, Stopped
from fdseg.module import SegmentationModule

TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.6",
    "data.split.training=6", "data.split.validation=1", "data.split.test=2", "n=3",
    "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu",
    "callbacks.last.every_n_epochs=1", "fusion=early",
]  # fmt: skip
# One server that has loaded the libraries and forks: a run then starts at once.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["fdseg.train", "fdseg.callbacks", "fdseg.report.run", "torchio"])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For the same bits here and in the children; volumes this small need no more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(cohort, where, *overrides):
    return trained(*TINY, f"data.cache={cohort}", f"runs={where}", *overrides)


def numbers(folder):
    """Everything that a run computed, to the last bit: weights, moments, tables, result."""
    checkpoints = {}
    for name in ("best", "last"):
        content = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        state = content["optimizer_states"][0]["state"]
        tensors = {
            **content["state_dict"],
            **{(i, k): v for i in state for k, v in state[i].items()},
        }
        checkpoints[name] = {key: value.flatten().tolist() for key, value in tensors.items()}
    rows = table(folder / "history.csv")
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    result = json.loads((folder / "result.json").read_text())
    tables = [(folder / name).read_text() for name in ("spectra.csv", "cases.csv")]
    return checkpoints, history, tables, result


def events(at, report):
    """Call ``report`` with a counter at every moment at which a file is written or renamed."""
    count = 0
    fsync, replace = os.fsync, Path.replace

    def tick():
        nonlocal count
        count += 1
        report(count) if at is None or count == at else None

    def ticking_fsync(descriptor):
        tick()
        fsync(descriptor)

    def ticking_replace(self, target):
        tick()
        moved = replace(self, target)
        tick()
        return moved

    os.fsync, Path.replace = ticking_fsync, ticking_replace


def child(cohort, where, words, die_at=None, counter=None):
    torch.set_num_threads(1)
    if die_at is not None:
        events(die_at, lambda _: os.kill(os.getpid(), signal.SIGKILL))
    elif counter is not None:
        events(None, lambda count: setattr(counter, "value", count))
    run(cohort, where, *words)


def start(*arguments, **options):
    process = FORK.Process(target=child, args=arguments, kwargs=options)
    process.start()
    return process


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """A run that nothing disturbed: its numbers, its seconds, how often it wrote."""
    where = tmp_path_factory.mktemp("whole")
    run(cohort, where / "warm")  # the cohort is made and prepared
    counter = FORK.Value("i", 0)
    begun = time.perf_counter()
    process = start(cohort, where, [], counter=counter)
    process.join(200)
    assert process.exitcode == 0
    seconds = time.perf_counter() - begun
    folder = next(p.parent for p in where.rglob("result.json") if "warm" not in p.parts)
    return numbers(folder), seconds, counter.value


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=[pytest.mark.slow] if i % 10 else []) for i in range(20)]
)
def test_a_run_killed_at_any_moment_ends_in_the_bits_of_one_that_was_not(
    seed, whole, cohort, tmp_path
):
    expected, seconds, writes = whole
    rng = random.Random(seed)
    if seed % 2:
        process = start(cohort, tmp_path, [])
        process.join(rng.uniform(0.05, 0.95) * seconds)
    else:  # while a checkpoint, a prediction, a table or the result is written
        process = start(cohort, tmp_path, [], die_at=rng.randint(1, writes))
        process.join(200)
        assert process.exitcode == -signal.SIGKILL
    process.kill()
    process.join()
    again = start(cohort, tmp_path, [])
    again.join(200)
    assert again.exitcode == 0
    folder = next(tmp_path.rglob("result.json")).parent
    assert numbers(folder) == expected
    assert not list(folder.rglob("*.partial"))


class Raise:
    """Raises a signal after a step of training."""

    def __init__(self, monkeypatch, number, step):
        from fdseg.callbacks import History

        original = History.on_train_batch_end

        def after(self, trainer, *rest):
            original(self, trainer, *rest)
            if trainer.global_step == step:
                signal.raise_signal(number)

        monkeypatch.setattr(History, "on_train_batch_end", after)


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, 5), (signal.SIGUSR2, 6), (signal.SIGUSR1, 1), (signal.SIGINT, 8)],
)
def test_a_signal_checkpoints_at_once_in_the_middle_of_an_epoch_and_nothing_is_lost(
    number, step, whole, cohort, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        Raise(patch, number, step)
        with pytest.raises(Stopped, match=f"stopped by {number.name}.*step {step}"):
            run(cohort, tmp_path)
    folder = next(tmp_path.rglob("last.ckpt")).parents[1]
    kept = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert kept["global_step"] == step
    assert runs.state(folder).name in ("stopped", "missing")
    assert not (folder / "failure.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run(cohort, tmp_path)
    assert numbers(folder) == whole[0]


def test_ctrl_c_once_more_meets_nobody_who_listens(tmp_path, capfd):
    from fdseg.callbacks import StopOnSignal

    callback = StopOnSignal(tmp_path / "last.ckpt")
    callback.on_train_start(None, None)
    signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert "stopping with a checkpoint; once more ends it at once" in capfd.readouterr().err
    callback.on_exception(None, None, Stopped(signal.SIGINT, "there"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    from fdseg.callbacks import StopOnSignal

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
    try:
        callback = StopOnSignal(tmp_path / "last.ckpt")
        callback.on_train_start(None, None)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        callback.on_exception(None, None, Stopped(signal.SIGTERM, "there"))
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_the_test_subjects_are_scored_loses_nothing(
    whole, cohort, tmp_path, monkeypatch
):
    from fdseg.callbacks import TestScores

    with monkeypatch.context() as patch:
        patch.setattr(TestScores, "_score", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(cohort, tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not list(tmp_path.rglob("failure.json"))
    assert numbers(run(cohort, tmp_path)) == whole[0]


def shorten(path):
    path.write_bytes(path.read_bytes()[:-100])


def call_something(path):
    path.write_bytes(pickle.dumps({"state_dict": Path("x")}))


def age(path):
    content = torch.load(path, weights_only=True)
    torch.save({**content, "fdseg_version": "0.0.9"}, path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shorten, "cannot be read as a checkpoint"),
        (call_something, "cannot be read as a checkpoint"),
        (age, r"written by fdseg 0\.0\.9, and this is 0\.1"),
    ],
)
def test_a_checkpoint_of_something_else_is_named_with_what_to_do(
    spoil, words, cohort, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        Raise(patch, signal.SIGTERM, 2)
        with pytest.raises(Stopped):
            run(cohort, tmp_path)
    last = next(tmp_path.rglob("last.ckpt"))
    spoil(last)
    with pytest.raises(FdsegError, match=f"{last}: .*{words}.* Remove {last.parents[1]} to"):
        run(cohort, tmp_path)
    assert last.is_file()


def test_a_signal_after_the_last_epoch_is_not_lost(whole, cohort, tmp_path, monkeypatch):
    from fdseg.callbacks import StopOnSignal

    original = StopOnSignal.on_train_epoch_end

    def after(self, trainer, module):
        original(self, trainer, module)
        if trainer.current_epoch + 1 == trainer.max_epochs:
            signal.raise_signal(signal.SIGUSR2)

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_train_epoch_end", after)
        with pytest.raises(Stopped, match="stopped by SIGUSR2 after the last epoch"):
            run(cohort, tmp_path)
    run(cohort, tmp_path)
    assert numbers(next(tmp_path.rglob("result.json")).parent) == whole[0]


@pytest.mark.parametrize(
    ("factor", "words"), [(math.nan, "is nan in epoch 3"), (1e3, r"is \d+.* in epoch 3.*began at")]
)
def test_a_loss_that_diverges_ends_the_run_with_a_record(
    factor, words, cohort, tmp_path, monkeypatch
):
    original, calls = DiceLoss.forward, iter(range(100))
    monkeypatch.setattr(
        DiceLoss, "forward", lambda *a: original(*a) * (factor if next(calls) >= 6 else 1)
    )
    with pytest.raises(FdsegError, match=f"the training loss {words}.*optimizer.lr"):
        run(cohort, tmp_path, "trainer.precision=32-true")  # whose loss is asked for no check
    folder = next(tmp_path.rglob("failure.json")).parent
    record = json.loads((folder / "failure.json").read_text())
    assert "the training diverges" in record["reason"]
    assert "guard.py" in record["traceback"]
    assert runs.state(folder).name == "failed"
    assert runs.state(folder).reason == record["reason"]
    kept = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert kept["epoch"] == 1  # the second, still sound


def test_a_failure_is_forgotten_once_the_run_works(whole, cohort, tmp_path, monkeypatch):
    def broken(self, *_):
        raise RuntimeError("CUDA out of memory\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationModule, "training_step", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(cohort, tmp_path)
    record = json.loads(next(tmp_path.rglob("failure.json")).read_text())
    assert record["reason"] == "RuntimeError: CUDA out of memory"
    folder = run(cohort, tmp_path)
    assert not (folder / "failure.json").exists()
    assert numbers(folder) == whole[0]


def at_epoch(monkeypatch, epoch, do):
    from fdseg.callbacks import RequireFolder

    original = RequireFolder.on_train_epoch_end

    def before(self, trainer, module):
        if trainer.current_epoch + 1 == epoch:
            do(self.folder)
        original(self, trainer, module)

    monkeypatch.setattr(RequireFolder, "on_train_epoch_end", before)


def test_a_removed_folder_ends_the_run_and_is_not_half_made_again(cohort, tmp_path, monkeypatch):
    at_epoch(monkeypatch, 2, shutil.rmtree)
    with pytest.raises(FdsegError, match="the run's folder was removed while it trained"):
        run(cohort, tmp_path)
    assert not list(tmp_path.rglob("history.csv"))


def test_a_cache_that_is_removed_ends_the_run_and_it_goes_on_with_a_new_one(
    whole, cohort, tmp_path, monkeypatch
):
    cache = shutil.copytree(cohort, tmp_path / "cache")
    with monkeypatch.context() as patch:
        at_epoch(patch, 2, lambda _: shutil.rmtree(cache / "hippocampus"))
        with pytest.raises(FdsegError, match=r"image.npy: the prepared case of .*Repeat the comm"):
            run(cache, tmp_path, "loader.in_ram=false")
    assert numbers(run(cache, tmp_path, "loader.in_ram=false")) == whole[0]


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(
    whole, cohort, tmp_path, monkeypatch
):
    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        at_epoch(patch, 3, lambda _: patch.setattr(os, "fsync", full))
        with pytest.raises(OSError, match="No space left"):
            run(cohort, tmp_path)
    folder = run(cohort, tmp_path)
    assert numbers(folder) == whole[0]
    assert not list(folder.rglob("*.partial"))


@pytest.mark.slow
def test_a_disk_that_really_fills_stops_a_run_that_goes_on_when_there_is_room(
    whole, cohort, small_disk, monkeypatch
):
    small_disk.enlarge()
    with monkeypatch.context() as patch:
        at_epoch(patch, 3, lambda _: small_disk.fill())
        with pytest.raises((OSError, RuntimeError)):
            run(cohort, small_disk.folder)
    small_disk.empty()
    (folder,) = (path.parents[1] for path in small_disk.folder.rglob("last.ckpt"))
    assert not list(folder.rglob("*.partial"))
    state = runs.state(folder)
    assert (state.name, state.epochs) == ("stopped", 2)  # there was no room for the reason
    assert numbers(run(cohort, small_disk.folder)) == whole[0]


def finished(where):
    return next(where.rglob("result.json")).parent


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=[pytest.mark.slow] if i else []) for i in range(10)]
)
def test_a_killed_run_whose_folder_was_moved_ends_in_the_same_bits(seed, whole, cohort, tmp_path):
    expected, _, writes = whole
    rng = random.Random(100 + seed)
    for place in ("first", "second/deep"):  # killed twice, moved twice
        process = start(cohort, tmp_path / place, [], die_at=rng.randint(1, writes))
        process.join(200)
        assert process.exitcode in (0, -signal.SIGKILL)
        process.close()
        (tmp_path / "third").mkdir(exist_ok=True)
        moved = tmp_path / ("second/deep" if place == "first" else "third/runs")
        moved.parent.mkdir(exist_ok=True)
        (tmp_path / place).rename(moved)
    again = start(cohort, tmp_path / "third/runs", [])
    again.join(200)
    assert again.exitcode == 0
    assert numbers(finished(tmp_path / "third")) == expected


@pytest.fixture
def stopped(whole, cohort, tmp_path, monkeypatch):
    """A run that was stopped after its best epoch so far; with its folder."""
    with monkeypatch.context() as patch:
        Raise(patch, signal.SIGTERM, 11)
        with pytest.raises(Stopped):
            run(cohort, tmp_path / "a")
    return next((tmp_path / "a").rglob("last.ckpt")).parents[1]


def score(path):
    states = torch.load(path, weights_only=True)["callbacks"]
    return next(s["best_model_score"] for s in states.values() if s.get("monitor"))


def test_a_moved_run_knows_its_best_score_and_where_the_best_checkpoint_is_now(
    whole, cohort, tmp_path, stopped
):
    best = score(stopped / "checkpoints/best.ckpt")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "c").symlink_to("b")
    folder = run(cohort, tmp_path / "c")
    assert numbers(folder) == whole[0]
    assert score(folder / "checkpoints/last.ckpt") >= best


def test_a_moved_run_that_has_all_its_epochs_is_tested(whole, cohort, tmp_path, monkeypatch):
    import lightning

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "test", killed)
        with pytest.raises(KeyboardInterrupt):
            run(cohort, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    assert numbers(run(cohort, tmp_path / "b")) == whole[0]


@pytest.mark.parametrize("which", ["missing", "of another run", "of an earlier epoch"])
def test_a_best_checkpoint_that_is_not_this_runs_is_refused(which, cohort, tmp_path, stopped):
    best = stopped / "checkpoints/best.ckpt"
    content = torch.load(best, weights_only=True)
    if which == "missing":
        best.unlink()
        words = "cannot be read as a checkpoint .*No such file"
    elif which == "of another run":
        torch.save({**content, "fdseg_run": "01234567"}, best)
        words = f"is a checkpoint of run 01234567, and this is run {stopped.name[-8:]}"
    else:
        state = next(s for s in content["callbacks"].values() if s.get("monitor"))
        state["best_model_score"] = state["best_model_score"] / 2
        torch.save(content, best)
        words = r"has a score of 0\.\d+, and the best of this run so far is 0\.\d+"
    with pytest.raises(FdsegError, match=rf"best\.ckpt: {words}.*emove {stopped} to train"):
        run(cohort, tmp_path / "a")


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_bit_that_changed_in_a_checkpoint_is_found_before_the_run_goes_on(
    name, cohort, tmp_path, stopped
):
    path = stopped / f"checkpoints/{name}.ckpt"
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # PyTorch does not see it
    with pytest.raises(FdsegError, match=rf"{name}\.ckpt: cannot be read .*Bad CRC-32|damaged"):
        run(cohort, tmp_path / "a")
