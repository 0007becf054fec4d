"""A folder of predictions holds those of the same runs, as they were written, or is refused."""

import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import compose

from fdseg import drafts, predict, records
from fdseg.errors import FdsegError
from fdseg.inference import Predictor
from fdseg.predictions import Predictions, find_files, name_volumes
from fdseg.records import OtherRunsError
from fdseg.trained import read_runs

NAMES = ("a", "b", "c")


def save(path, seed):
    """A volume of smooth noise."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=(11, 13, 9)).cumsum(0).cumsum(1).cumsum(2)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.eye(4)), path)


def predicted(run, volumes, output, *overrides):
    words = [f"run={run}", f"input={volumes}", f"output={output}", "memory_gb=100", *overrides]
    predict.run(compose("predict", *words))
    return output


def labels(folder):
    """The content of all label maps."""
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


@pytest.fixture(scope="module")
def given(make_run, tmp_path_factory):
    """Three volumes, two runs, and what each of them makes of the volumes."""
    root = tmp_path_factory.mktemp("given")
    for seed, name in enumerate(NAMES):
        save(root / "in" / f"{name}.nii.gz", seed)
    for run, weights in (("A", 1), ("B", 2)):
        make_run(root / run, weights=weights)
        predicted(root / run, root / "in", root / f"of_{run}")
    of_a, of_b = labels(root / "of_A"), labels(root / "of_B")
    assert sorted(of_a) == sorted(of_b) == [f"{name}.nii.gz" for name in NAMES]
    assert not [name for name in of_a if of_a[name] == of_b[name]]
    return root


@pytest.fixture
def place(given, tmp_path):
    """The volumes again, and the predictions of run A in `out`."""
    for name in ("in", "of_A"):
        shutil.copytree(given / name, tmp_path / name.replace("of_A", "out"))
    return tmp_path


# The record


def test_each_volume_has_a_record_of_what_made_its_files_and_what_they_are(given, place):
    out = predicted(given / "A", place / "in", place / "new", "probabilities=true", "overlays=true")
    assert sorted(path.stem for path in (out / "records").iterdir()) == [*NAMES]
    for name in NAMES:
        record = json.loads((out / "records" / f"{name}.json").read_text())
        assert record["prediction"] == json.loads((out / "prediction.json").read_text())
        assert list(record["prediction"]["runs"].values()) == ["A, best"]
        assert record["volume"]["file"] == f"{place}/in/{name}.nii.gz"
        files = [f"{name}.nii.gz", f"{name}_probabilities.npz", f"{name}.png"]
        assert list(record["files"]) == files
        stamps = [(place / "in" / f"{name}.nii.gz", record["volume"])]
        stamps += [(out / file, record["files"][file]) for file in files]
        for path, stamp in stamps:
            assert stamp["size"] == path.stat().st_size
            assert stamp["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_another_volume_leaves_the_records_of_the_others_alone(given, place, monkeypatch):
    def state():
        return {p: p.stat().st_mtime_ns for p in place.glob("out/**/*") if p.is_file()}

    before, read, original = state(), [], records.read_json
    monkeypatch.setattr(records, "read_json", lambda path: read.append(path) or original(path))
    save(place / "in" / "d.nii.gz", 4)
    predicted(given / "A", place / "in", place / "out")
    assert {**state(), **before} == state()  # as they were, and more
    assert {path.name for path in state().keys() - before.keys()} == {"d.nii.gz", "d.json"}
    assert [read.count(place / "out" / "records" / f"{name}.json") for name in NAMES] == [1, 1, 1]


# One run's predictions at a time. A process of its own is killed before each of its changes of the
# folder: before a file is removed, or gets its name.

FORK = multiprocessing.get_context("fork")


def overwrite_until_killed(given, place, step):
    """Let B overwrite A's, and end it by SIGKILL before it takes this step; or let it finish."""

    def work():
        taken = itertools.count()

        def counted(original):
            def call(*arguments, **options):
                if next(taken) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **options)

            return call

        os.unlink, os.replace = counted(os.unlink), counted(os.replace)
        predicted(given / "B", place / "in", place / "out", "overwrite=true")
        os._exit(0)

    child = FORK.Process(target=work)
    child.start()
    child.join(60)
    return child.exitcode


def assert_nothing_is_mixed(given, place):
    """All label maps are A's, or all are B's; and B ends with its own, or with an error before."""
    there, of = labels(place / "out"), {run: labels(given / f"of_{run}") for run in "AB"}
    by = [run for run in "AB" if there.items() <= of[run].items()]
    assert by, "a mixture"
    if there and by == ["A"]:
        with pytest.raises(OtherRunsError, match=r"other runs or options .*overwrite=true"):
            predicted(given / "B", place / "in", place / "out")
        assert labels(place / "out") == there
        predicted(given / "B", place / "in", place / "out", "overwrite=true")
    else:
        predicted(given / "B", place / "in", place / "out")
    assert labels(place / "out") == of["B"]
    facts = json.loads((place / "out" / "prediction.json").read_text())
    assert list(facts["runs"].values()) == ["B, best"]
    return len(there), by[-1]


def killed_at(steps, given, place):
    """How many of whose label maps there were after each kill, up to the last step."""
    found = []
    for step in steps:
        shutil.rmtree(place / "out")
        shutil.copytree(given / "of_A", place / "out")
        code = overwrite_until_killed(given, place, step)
        found.append(assert_nothing_is_mixed(given, place))
        if code == 0:
            return found
        assert code == -signal.SIGKILL
    return found


@pytest.mark.skipif(sys.platform == "darwin", reason="its libraries do not work after a fork")
def test_an_overwrite_that_is_killed_mixes_nothing(given, place):
    first, *later = killed_at((1, 9, 14), given, place)
    assert first == (2, "A")
    assert [by for _, by in later] == ["B", "B"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="its libraries do not work after a fork")
def test_an_overwrite_that_is_killed_anywhere_mixes_nothing(given, place):
    found = killed_at(itertools.count(), given, place)
    assert found[-1] == (3, "B")
    assert [n for n, by in found if by == "B"] == sorted(n for n, by in found if by == "B")
    assert {n for n, by in found if by == "A"} == {3, 2, 1}
    assert len(found) > 15


def test_a_disk_that_fills_up_in_the_middle_mixes_nothing(given, place, monkeypatch):
    original, calls = Path.write_bytes, itertools.count()

    def full(path, content):
        if next(calls) >= 2:
            raise OSError(28, "No space left on device")
        return original(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(FdsegError, match=r"out: cannot be written \(No space left on device"):
            predicted(given / "B", place / "in", place / "out", "overwrite=true")
    assert not [*(place / "out").glob(".*")]
    assert assert_nothing_is_mixed(given, place) == (2, "B")


def test_a_volume_that_fails_in_the_middle_has_no_prediction_of_another_run(given, place):
    volume = place / "in" / "b.nii.gz"
    volume.write_bytes(volume.read_bytes()[:500])
    with pytest.raises(FdsegError, match="1 of 3 volumes could not be predicted"):
        predicted(given / "B", place / "in", place / "out", "overwrite=true")
    of_b = labels(given / "of_B")
    assert labels(place / "out") == {name: of_b[name] for name in ("a.nii.gz", "c.nii.gz")}


def test_predictions_of_other_runs_that_would_stay_are_refused_first(given, place):
    before = labels(place / "out")
    words = [given / "B", place / "in" / "a.nii.gz", place / "out", "overwrite=true"]
    with pytest.raises(OtherRunsError, match=r"that input does not name \(b, c\), which would sta"):
        predicted(*words)
    assert labels(place / "out") == before
    for name in "bc":
        (place / "out" / f"{name}.nii.gz").unlink()
    assert labels(predicted(*words)) == {"a.nii.gz": labels(given / "of_B")["a.nii.gz"]}


def test_what_an_older_option_made_beside_the_label_maps_goes_too(given, place):
    predicted(given / "A", place / "in", place / "out", "probabilities=true", "overlays=true")
    predicted(given / "B", place / "in", place / "out", "overwrite=true")
    assert labels(place / "out") == labels(given / "of_B")
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        *sorted(labels(place / "out")), "prediction.json", "records"]  # fmt: skip


def test_what_a_killed_process_left_half_written_is_removed(given, place):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    parent, machine = os.getppid(), drafts._machine()  # which is still at work
    old, new = (
        place / "out" / f".prediction.{machine}-{pid}-0.partial" for pid in (ended.pid, parent)
    )
    for draft in (old, new):
        draft.mkdir()
        (draft / "a.nii.gz").write_bytes(b"half")
    predicted(given / "A", place / "in", place / "out")
    assert not old.exists()
    assert new.exists()


# Two processes at once


def predictions(run, place):
    predictor = Predictor(read_runs([run]), device=torch.device("cpu"), memory_gb=100)
    return Predictions(place / "out", predictor, False, False)


def test_of_two_runs_that_predict_into_one_folder_the_first_stops(given, place):
    shutil.rmtree(place / "out")
    volumes = name_volumes(find_files([place / "in"]))
    first, second = predictions(given / "A", place), predictions(given / "B", place)
    first.begin(volumes, overwrite=False)
    first.write("a", volumes["a"])
    with pytest.raises(OtherRunsError, match="holds predictions of other runs"):
        second.begin(volumes, overwrite=False)
    second.begin(volumes, overwrite=True)
    with pytest.raises(OtherRunsError, match=r"another process writes predictions of other runs"):
        first.write("b", volumes["b"])
    assert labels(place / "out") == {}
    assert assert_nothing_is_mixed(given, place) == (0, "B")


def test_two_processes_of_one_run_share_a_folder(given, place):
    shutil.rmtree(place / "out")
    volumes = name_volumes(find_files([place / "in"]))
    both = [predictions(given / "A", place) for _ in "12"]
    begun = [one.begin(volumes, overwrite=False) for one in both]
    assert begun == [volumes, volumes]
    for one, name in itertools.product(both, NAMES):
        one.write(name, volumes[name])
    assert labels(place / "out") == labels(given / "of_A")
    assert predictions(given / "A", place).begin(volumes, overwrite=False) == {}


# Files of another origin


@pytest.mark.parametrize("overwrite", ["overwrite=false", "overwrite=true"])
def test_files_that_others_wrote_are_neither_taken_nor_replaced(overwrite, given, place, capsys):
    truth = place / "truth"
    shutil.copytree(given / "of_B", truth)
    for name in ("prediction.json", "records", "c.nii.gz"):
        path = truth / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = labels(truth)
    with pytest.raises(
        FdsegError, match=r"holds files that fdseg.predict did not write.* \(a.nii.gz, b.nii.gz\)"
    ):
        predicted(given / "A", place / "in", truth, overwrite)
    assert "already" not in capsys.readouterr().out
    assert labels(truth) == before
    assert sorted(path.name for path in truth.iterdir()) == sorted(before)


@pytest.mark.parametrize("overwrite", ["overwrite=false", "overwrite=true"])
@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", ["overlays=true"]), ("a_probabilities.npz", ["probabilities=true"]),
     ("prediction.json", [])],
)  # fmt: skip
def test_neither_is_another_file_of_an_outputs_name(name, options, overwrite, given, place):
    (place / "out" / name).write_text("somebody's")
    with pytest.raises(FdsegError, match=rf"did not write, .*\({name}\). They are never"):
        predicted(given / "A", place / "in", place / "out", overwrite, *options)
    assert (place / "out" / name).read_text() == "somebody's"


@pytest.mark.parametrize("overwrite", ["overwrite=false", "overwrite=true"])
def test_a_label_map_that_somebody_corrected_is_kept(overwrite, given, place):
    path = place / "out" / "a.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(1 - np.asarray(image.dataobj) // 2, image.affine), path)
    corrected = path.read_bytes()
    with pytest.raises(
        FdsegError, match=r"or that were changed since \(a.nii.gz\). .*move them aw"
    ):
        predicted(given / "A", place / "in", place / "out", overwrite)
    assert path.read_bytes() == corrected


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"files": {}}', '{"files": 3, "volume": 1}',
     '{"prediction": {}, "volume": {}, "files": {"a.nii.gz": 1}}'],
)  # fmt: skip
def test_without_a_whole_record_a_file_is_of_another_origin(text, given, place):
    (place / "out" / "records" / "a.json").write_text(text)
    with pytest.raises(FdsegError, match=r"did not write, .*\(a.nii.gz\)"):
        predicted(given / "A", place / "in", place / "out")


# What counts as done


@pytest.mark.parametrize("length", [0, 1, 20, -1])
def test_a_label_map_that_is_cut_off_is_predicted_again(length, given, place, capsys):
    path = place / "out" / "a.nii.gz"
    path.write_bytes(path.read_bytes()[:length])
    predicted(given / "A", place / "in", place / "out")
    assert "2 of 3 are there already" in capsys.readouterr().out
    assert labels(place / "out") == labels(given / "of_A")


def test_a_volume_that_has_changed_is_predicted_again_and_a_copy_is_not(given, place, capsys):
    # The volumes of `place` are copies of those that were predicted, at other times.
    for path in (place / "in").iterdir():
        os.utime(path, ns=(1, 1))
    predicted(given / "A", place / "in", place / "out")
    assert "3 of 3 are there already" in capsys.readouterr().out
    moved = (place / "in").rename(place / "elsewhere")
    predicted(given / "A", moved, place / "out")
    assert "3 of 3 are there already" in capsys.readouterr().out

    out = predicted(given / "A", moved, place / "new")
    shutil.copy(moved / "b.nii.gz", moved / "a.nii.gz")
    predicted(given / "A", moved, out)
    assert "2 of 3 are there already" in capsys.readouterr().out
    of_a = labels(given / "of_A")
    assert labels(out) == {**of_a, "a.nii.gz": of_a["b.nii.gz"]}


def test_a_change_of_equal_size_whose_time_was_put_back_is_noticed(given, place, capsys):
    volume = place / "in" / "d.nii"  # not compressed: as long, whatever is in it
    image = nib.load(place / "in" / "a.nii.gz")
    nib.save(image, volume)
    out = predicted(given / "A", place / "in", place / "new")
    before, time = labels(out), volume.stat().st_mtime_ns
    nib.save(nib.Nifti1Image(-image.get_fdata(dtype=np.float32), image.affine), volume)
    os.utime(volume, ns=(time, time))
    path = out / "b.nii.gz"
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(content[:-9] + bytes(9))
    os.utime(path, ns=(time, time))
    capsys.readouterr()
    predicted(given / "A", place / "in", out)
    assert "2 of 4 are there already" in capsys.readouterr().out
    assert labels(out)["d.nii.gz"] != before["d.nii.gz"]
    assert labels(out) == {**before, "d.nii.gz": labels(out)["d.nii.gz"]}


def test_another_volume_of_the_same_name_does_not_replace_the_first(given, place):
    save(place / "sub-2" / "a.nii.gz", 7)
    words = [given / "A", place / "sub-2" / "a.nii.gz", place / "out"]
    with pytest.raises(
        FdsegError, match=r"of other volumes of the same names \(a\). .*overwrite=t"
    ):
        predicted(*words)
    assert labels(place / "out") == labels(given / "of_A")
    predicted(*words, "overwrite=true")
    assert labels(place / "out")["a.nii.gz"] != labels(given / "of_A")["a.nii.gz"]


def test_a_volume_that_cannot_be_read_now_keeps_its_prediction(given, place):
    (place / "in" / "a.nii.gz").unlink()
    (place / "in" / "a.nii.gz").symlink_to("gone.nii.gz")
    with pytest.raises(FdsegError, match=r"1 of 3 volumes could not .*\n.*a.nii.gz: no such file"):
        predicted(given / "A", place / "in", place / "out")
    assert labels(place / "out") == labels(given / "of_A")
