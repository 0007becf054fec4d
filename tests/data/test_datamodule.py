import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
import torchio as tio
from torch.utils.data import DataLoader

from fdseg.data.datamodule import CaseDataset, EpochSampler, SegmentationData, derived_seed
from fdseg.errors import FdsegError

NOISE = tio.RandomNoise(std=(0.1, 0.3))
SPATIAL = tio.Compose([tio.RandomFlip(axes=(0, 1, 2)), tio.RandomAffine(degrees=20), NOISE])


@pytest.fixture
def make_data(make_task):
    """The loaders of a run on the tiny cohort, set up, with some options changed."""

    def make(n=4, seed=0, **options):
        data = SegmentationData(make_task(), n, seed, **options)
        data.prepare_data()
        data.setup()
        return data

    return make


def epochs_of(data, epochs):
    """The training batches of some epochs, as Lightning asks for them, by epoch and case."""
    loader = data.train_dataloader()
    found = {}
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for row, case in enumerate(batch["case"].tolist()):
                found[epoch, case] = (batch["image"][row], batch["label"][row])
    return found


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# The order of an epoch


def test_an_epoch_meets_every_case_once():
    for epoch in range(3):
        sampler = EpochSampler(17, seed=2)
        sampler.set_epoch(epoch)
        assert len(sampler) == 17
        assert sorted(sampler) == [(index, epoch) for index in range(17)]


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    def order(seed, epoch):
        sampler = EpochSampler(30, seed)
        sampler.set_epoch(epoch)
        return [index for index, _ in sampler]

    first = order(1, 4)
    torch.manual_seed(99)
    torch.rand(5)
    assert order(1, 4) == first
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_drawing_an_order_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    list(EpochSampler(30, seed=1))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_a_resumed_run_meets_the_order_it_would_have_met(make_data):
    through = list(epochs_of(make_data(), range(4)))
    assert list(epochs_of(make_data(), [2, 3])) == [key for key in through if key[0] >= 2]


def test_derived_seeds_differ():
    seeds = {derived_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


# The three sets


def test_training_is_the_draw_and_validation_and_test_are_the_tasks(make_data, make_task):
    data, task = make_data(n=3, seed=5), make_task()
    for dataset, expected in (
        (data.training, task.draw(3, 5)),
        (data.validation, task.subjects.validation),
        (data.test, task.subjects.test),
    ):
        assert tuple(prepared.case.name for prepared in dataset.cases) == expected


def test_the_three_sets_have_nobody_in_common(make_data):
    data = make_data(n=6)
    people = [
        {prepared.case.participant for prepared in dataset.cases}
        for dataset in (data.training, data.validation, data.test)
    ]
    assert sum(map(len, people)) == len(set.union(*people)) == 6


def test_items_have_the_shapes_and_types_that_the_network_needs(make_data):
    data = make_data()
    for dataset in (data.training, data.validation, data.test):
        for index, item in enumerate(dataset[i] for i in range(len(dataset))):
            assert item["image"].shape == (1, 12, 14, 8)
            assert item["image"].dtype == torch.float32
            assert item["image"].min() >= 0
            assert item["image"].max() <= 1
            assert item["label"].shape == (12, 14, 8)
            assert item["label"].dtype == torch.uint8
            assert item["label"].unique().tolist() == [0, 1, 2]
            assert item["case"] == index


def test_batches_are_of_the_size_asked_for_and_tests_of_one(make_data):
    data = make_data(n=5, batch_size=2)
    sizes = [batch["image"].shape[0] for batch in data.train_dataloader()]
    assert sizes == [2, 2, 1]
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert [batch["case"].tolist() for batch in loader] == [[0], [1]]


def test_held_cases_are_those_that_are_mapped(make_data):
    held, mapped = (make_data(in_ram=in_ram).training for in_ram in (True, False))
    for _ in range(2):
        for index in range(len(held)):
            one, other = held[index], mapped[index]
            assert equal((one["image"], one["label"]), (other["image"], other["label"]))


def test_held_cases_are_read_once_and_others_every_time(make_data, monkeypatch):
    held, others = (make_data(in_ram=in_ram).training for in_ram in (True, False))
    held[0], others[0]
    monkeypatch.setattr(np, "load", lambda *_, **__: (_ for _ in ()).throw(OSError("was read")))
    held[0]
    with pytest.raises(FdsegError, match="was read"):
        others[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_is_lost_in_training_is_named_without_a_traceback(make_data, workers):
    data = make_data(in_ram=False, workers=workers)
    loader = data.train_dataloader()
    assert len(list(loader)) == 4
    for prepared in data.training.cases:
        shutil.rmtree(prepared.folder)
    with pytest.raises(FdsegError, match=r"^/.*/image.npy: the prepared case of toy_0") as caught:
        list(loader)
    words = "(No such file or directory). Repeat the command; it prepares the case again."
    assert str(caught.value).endswith(words)


def test_a_damaged_case_is_whole_again_before_the_first_epoch(make_data):
    before = epochs_of(make_data(), [0])
    data = make_data()
    for prepared in data.training.cases:
        image = prepared.folder / "image.npy"
        content = image.read_bytes()
        image.write_bytes(content[:-1000] + bytes(1000))
    after = epochs_of(make_data(), [0])
    assert all(equal(after[key], before[key]) for key in before)


def test_a_bad_case_is_found_before_the_first_epoch_although_it_was_not_drawn(msd, make_task):
    task = make_task()
    drawn = task.draw(1, seed=0)
    bad = next(name for name in msd.images if name not in drawn)
    msd.write_image(bad, np.full_like(msd.image(bad), 3))
    data = SegmentationData(make_task(), 1, 0)
    with pytest.raises(FdsegError, match=f"{bad}: the image is constant"):
        data.prepare_data()


def test_an_impossible_n_is_refused_at_once(make_task):
    with pytest.raises(FdsegError, match=r"n=7: .* Choose n from 1 to 6"):
        SegmentationData(make_task(), 7, 0)


# Augmentation


def test_without_augmentation_no_torchio_subject_is_made(make_data, monkeypatch):
    data = make_data()

    def refuse(*_, **__):
        raise AssertionError("a TorchIO subject was made")

    monkeypatch.setattr(tio, "Subject", refuse)
    monkeypatch.setattr(tio.Transform, "__call__", refuse)
    assert len(epochs_of(data, [0])) == 4
    augmented = CaseDataset(data.training.cases, augmentation=NOISE)
    with pytest.raises(AssertionError, match="a TorchIO subject was made"):
        augmented[0]


def test_workers_leave_ctrl_c_to_the_process_that_trains(make_data):
    loader = make_data(workers=1).train_dataloader()
    batches = iter(loader)
    found = [next(batches)]  # the worker has begun
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    assert len([*found, *batches]) == 4
    assert worker.is_alive()


def test_augmentation_is_the_same_for_any_number_of_workers(make_data):
    here = epochs_of(make_data(augmentation=SPATIAL), range(2))
    torch.manual_seed(99)
    there = epochs_of(make_data(augmentation=SPATIAL, workers=2), range(2))
    assert here.keys() == there.keys()
    assert all(equal(here[key], there[key]) for key in here)


def test_augmentation_differs_between_epochs_cases_and_seeds(make_data):
    plain = make_data().training
    noise = {}
    for seed in (0, 1):
        dataset = CaseDataset(plain.cases, augmentation=NOISE, seed=seed)
        for epoch in (0, 1):
            for index in (0, 1):
                image = dataset[index, epoch]["image"] - plain[index]["image"]
                noise[seed, epoch, index] = tuple(image.flatten()[:50].tolist())
    assert len(set(noise.values())) == 8


def test_augmentation_keeps_types_shapes_and_the_stored_case(make_data):
    dataset = make_data(augmentation=SPATIAL).training
    before = CaseDataset(dataset.cases)[0]
    item = dataset[0, 3]
    assert item["image"].shape == (1, 12, 14, 8)
    assert item["image"].dtype == torch.float32
    assert item["label"].shape == (12, 14, 8)
    assert item["label"].dtype == torch.uint8
    assert set(item["label"].unique().tolist()) <= {0, 1, 2}
    assert not torch.equal(item["image"], before["image"])
    assert torch.equal(dataset._held[0][0], before["image"])
    assert torch.equal(dataset._held[0][1], before["label"])


def test_augmentation_moves_image_and_label_together(make_data):
    dataset = make_data(augmentation=tio.RandomFlip(axes=(0,), flip_probability=1)).training
    before, item = CaseDataset(dataset.cases)[0], dataset[0, 0]
    assert torch.equal(item["image"], before["image"].flip(1))
    assert torch.equal(item["label"], before["label"].flip(0))


def test_augmentation_leaves_the_global_generator_alone(make_data):
    dataset = make_data(augmentation=SPATIAL).training
    torch.manual_seed(0)
    dataset[0, 0]
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_only_training_is_augmented(make_data):
    data = make_data(augmentation=NOISE)
    for dataset in (data.validation, data.test):
        assert dataset.augmentation is None


def test_a_plain_index_stands_for_epoch_0(make_data):
    dataset = make_data(augmentation=NOISE).training
    (batch, *_) = DataLoader(dataset)
    assert torch.equal(batch["image"][0], dataset[0, 0]["image"])
