"""One run on several devices, here two processes on the CPU that talk by gloo."""

import os

import pytest
import torch
from commands import shell, table

from fdseg.data.datamodule import EpochSampler

WORDS = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.5",
    "data.split.training=6", "data.split.validation=3", "data.split.test=2", "n=5",
    "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu",
    "trainer.precision=64-true", "backbone.network.dropout=0",
]  # fmt: skip


def train(*words):
    ended = shell("train", *words, *WORDS, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return ended.returncode, ended.stdout, ended.stderr


def numbers(where):
    (result,) = where.rglob("result.json")
    checkpoint = torch.load(result.with_name("checkpoints") / "last.ckpt", weights_only=True)
    rows = table(result.with_name("history.csv"))
    history = [(row["train_loss"], row["validation_dice"]) for row in rows]
    spectra = result.with_name("spectra.csv").read_text()
    return result.parent.name, checkpoint["state_dict"], history, spectra


@pytest.mark.slow
def test_two_processes_compute_what_one_does_with_the_same_batches(tmp_path):
    cache = f"data.cache={tmp_path}/cache"
    for where, words in (("one", []), ("two", ["trainer=ddp", "trainer.devices=2"])):
        status, printed, errors = train(
            cache, f"runs={tmp_path}/{where}", "loader.batch_size=2", *words
        )
        assert status == 0, errors
        assert printed.count("test subjects, mean ± SEM") == 1
    name, weights, history, spectra = numbers(tmp_path / "one")
    other_name, other_weights, other_history, other_spectra = numbers(tmp_path / "two")
    assert name == other_name  # the same run: devices are no science
    for key, value in weights.items():
        torch.testing.assert_close(other_weights[key], value, rtol=1e-9, atol=1e-12)
    assert [float(loss) for loss, _ in other_history] == pytest.approx(
        [float(loss) for loss, _ in history], rel=1e-6
    )
    assert other_history[1][1] == history[1][1] != ""  # validated on every case once
    assert other_spectra == spectra
    assert len(spectra.splitlines()) == 1 + 10


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("length", [1, 5, 12, 13])
def test_processes_share_every_batch_of_the_one_order(world, length):
    size = 2 * world
    whole = [index for index, _ in EpochSampler(length, 3, 7, batch_size=size)]
    shares = [
        [i for i, _ in EpochSampler(length, 3, 7, batch_size=size, rank=r, world=world)]
        for r in range(world)
    ]
    assert {len(share) for share in shares} == {
        len(EpochSampler(length, 3, 7, batch_size=size, world=world))
    }
    for first in range(0, length, size):
        batch, step = whole[first : first + size], first // size
        parts = [share[step * 2 : step * 2 + 2] for share in shares]
        assert {i for part in parts for i in part} == set(batch)
        if len(batch) == size:
            assert [i for part in parts for i in part] == batch


def test_an_epoch_that_had_begun_goes_on_where_it_stood():
    whole = list(EpochSampler(10, 1, 4, batch_size=3))
    rest = EpochSampler(10, 1, 4, batch_size=3, start=2)
    assert list(rest) == whole[6:]
    rest.set_epoch(5)
    assert list(rest) == list(EpochSampler(10, 1, 5, batch_size=3))


def test_a_batch_that_devices_cannot_share_is_refused_with_the_size_that_works(tmp_path):
    status, _, errors = train(
        f"runs={tmp_path}", "trainer=ddp", "trainer.devices=2", "loader.batch_size=3"
    )
    assert status != 0
    assert "loader.batch_size=3: 2 devices cannot share it evenly" in errors
    assert "write loader.batch_size=2" in errors


def test_several_devices_in_a_multirun_of_one_process_are_refused_and_the_way_is_named(tmp_path):
    status, _, errors = train(
        "-m", f"runs={tmp_path}", "seed=0,1", "trainer=ddp", "trainer.devices=2"
    )
    assert status == 2
    assert "hydra/launcher=processes hydra.launcher.jobs=1" in errors
    assert not list(tmp_path.rglob("*.ckpt"))
