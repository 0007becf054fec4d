"""Runs as they are found and read."""

import hashlib
import json
import random

import pytest
import torch
from synthetic import RESULT

from fdseg.errors import FdsegError
from fdseg.trained import find_runs, read_run, read_runs


def finished(folder):
    (folder / "result.json").write_text(json.dumps(RESULT))
    return folder


@pytest.fixture(scope="module")
def sweep(make_run, tmp_path_factory):
    """Two finished seeds, and one that is not."""
    root = tmp_path_factory.mktemp("runs") / "hippocampus" / "unet"
    for seed in (0, 1):
        finished(make_run(root / f"seed{seed}", weights=seed))
    make_run(root / "seed2", weights=2)
    return root


def test_a_folder_above_runs_stands_for_the_finished_ones(sweep):
    expected = [sweep / "seed0", sweep / "seed1"]
    assert find_runs([sweep]) == find_runs([sweep.parent]) == expected


def test_a_run_that_is_named_need_not_be_finished_and_counts_once(sweep):
    assert find_runs([sweep / "seed2", sweep]) == [sweep / f"seed{n}" for n in (2, 0, 1)]
    assert find_runs([sweep, sweep / "seed0", sweep]) == [sweep / "seed0", sweep / "seed1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "no such folder"), ("empty", "0 below it"), ("begun", "1 below it, not finished")],
)
def test_where_there_is_no_finished_run_that_is_said(name, words, make_run, tmp_path):
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "begun" / "seed0")
    with pytest.raises(FdsegError, match=rf"{name}: no finished run \({words}.*\. run=… is"):
        find_runs([tmp_path / name])


def test_a_result_that_is_not_whole_is_no_finished_run(make_run, tmp_path):
    folder = make_run(tmp_path / "seed0")
    (folder / "result.json").write_text("{}")
    reason = r"1 below it, not finished; .*seed0: result.json is not whole: task is missing\)"
    with pytest.raises(FdsegError, match=reason):
        find_runs([tmp_path])


def test_a_run_knows_the_channel_that_it_was_trained_on(make_run, tmp_path):
    first, second = (
        make_run(tmp_path / f"{n}", f"+data.cohort.channel={n}", weights=n) for n in (0, 1)
    )
    assert read_run(first).channel == 0
    assert read_run(make_run(tmp_path / "other")).channel is None
    with pytest.raises(FdsegError, match=rf"{second}: channel is 1, but 0 in {first}. Only runs"):
        read_runs([first, second])


@pytest.mark.parametrize("value", ["-1", "true", "12345", "0.5", "x", "[0]"])
def test_a_channel_that_cannot_be_is_refused(value, make_run, tmp_path):
    run = make_run(tmp_path / "run", f"+data.cohort.channel={value}")
    with pytest.raises(FdsegError, match=r"config.yaml: data.cohort.channel=.* is no number of a"):
        read_run(run)


def test_a_run_is_read_with_all_that_a_prediction_needs(make_run, tmp_path):
    run = read_run(
        make_run(tmp_path / "run", "data=heart", "data.size=[16,16,8]", "checkpoint=last")
    )
    assert run.task == "heart"
    assert run.structures == {"left_atrium": 1}
    assert run.preprocessing.size == (16, 16, 8)
    assert run.preprocessing.reshape == "crop_or_pad"
    assert (run.is_phantom, run.checkpoint, run.autocast) == (False, "last", None)
    assert not run.network.training
    assert not run.saw_flips


def test_the_checkpoint_can_be_chosen(sweep):
    folder = sweep / "seed2"
    last = folder / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)["state_dict"]
    torch.save({"state_dict": {name: 2 * value for name, value in state.items()}}, last)
    best, chosen = read_run(folder), read_run(folder, checkpoint="last")
    assert torch.equal(chosen.network.stem.weight, 2 * best.network.stem.weight)
    assert chosen.digest != best.digest
    with pytest.raises(FdsegError, match="checkpoint=newest: expected best or last"):
        read_run(folder, checkpoint="newest")


def test_a_missing_checkpoint_is_named(make_run, tmp_path):
    (make_run(tmp_path / "run") / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(FdsegError, match=r"run/checkpoints/best.ckpt: no such checkpoint"):
        read_run(tmp_path / "run")


def test_a_mixed_precision_run_is_computed_as_it_was_tested(make_run, tmp_path):
    folder = make_run(tmp_path / "run")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("32-true", "bf16-mixed"))
    run, image = read_run(folder), torch.rand(1, 1, 16, 20, 12)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = run.network(image).float().sigmoid()
    assert torch.equal(run.probabilities(image), expected)
    assert run.probabilities(image).dtype == torch.float32
    with torch.inference_mode():
        assert not torch.equal(run.network(image).sigmoid(), expected)


def test_mirrored_training_is_known(make_run, tmp_path):
    flip = "augmentation.transform={_target_:torchio.RandomFlip,axes:[0]}"
    assert read_run(make_run(tmp_path / "run", flip)).saw_flips


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data=heart", "data.size=[16,20,12]"], "task is heart, but hippocampus in"),
        (["data.size=[16,20,16]"], r"size is \[16, 20, 16\], but \[16, 20, 12\] in"),
        (["data.reshape=resize"], "reshape is resize, but crop_or_pad in"),
        (["data.structures.posterior=3"], r"structures is .*\('posterior', 3\).* but .*2\)\] in"),
        (["data.root=null", "data.size=[16,20,12]"], "data is phantom, but real in"),
    ],
)
def test_runs_that_differ_are_not_averaged(overrides, words, sweep, make_run, tmp_path):
    other = make_run(tmp_path / "other", *overrides)
    with pytest.raises(FdsegError, match=rf"other: {words} .*seed0.*Only runs of the same task"):
        read_runs([sweep, other])


def test_a_changed_bit_in_a_checkpoint_is_refused_wherever_it_changes_the_weights(
    make_run, tmp_path
):
    folder = make_run(tmp_path / "run")
    path = folder / "checkpoints" / "best.ckpt"
    whole, expected = path.read_bytes(), read_run(folder).network.state_dict()
    refused = 0
    for place in random.Random(0).sample(range(len(whole)), 60):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        try:
            weights = read_run(folder).network.state_dict()
        except FdsegError as error:
            assert "best.ckpt: not a checkpoint" in str(error)  # noqa: PT017
            refused += 1
        else:  # in what pads the archive
            assert all(torch.equal(expected[name], value) for name, value in weights.items())
    assert refused > 40


def test_a_checkpoint_that_the_run_was_not_finished_with_is_refused(make_run, tmp_path):
    folder, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", weights=1)
    files = [path / "checkpoints" / "best.ckpt" for path in (folder, other)]
    manifest = {"checkpoints": {"best": hashlib.sha256(files[0].read_bytes()).hexdigest()}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    read_run(folder)
    read_run(folder, checkpoint="last")  # of which the manifest says nothing
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(FdsegError, match=r"best\.ckpt: is not the file that .* finished with"):
        read_run(folder)
