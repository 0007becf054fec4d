"""Loaders over prepared cases."""

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fdseg.data.cache import PreparedCase, Preparer
from fdseg.data.task import Task
from fdseg.errors import FdsegError

Augmentation = Callable[[Any], Any]


class CaseDataset(Dataset):
    """Prepared cases as tensors.

    Items are dictionaries: ``image[1, X, Y, Z]`` float32 in [0, 1], ``label[X, Y, Z]`` uint8 with
    the structures numbered from 1, and ``case``, the index in ``cases``.

    Args:
        cases: prepared cases.
        in_ram: keep every case in memory from its first use on, or read its files each time.
        augmentation: a TorchIO transform, drawn anew per seed, epoch and case, whatever the number
            of workers.
        seed: of the augmentation.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        in_ram: bool = True,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.cases = list(cases)
        self.in_ram = in_ram
        self.augmentation = augmentation
        self.seed = seed
        self._held: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        image, label = self._held.get(index) or self._load(index)
        if self.augmentation is not None:
            image, label = self._augmented(image, label, index, epoch)
        return {"image": image, "label": label, "case": index}

    def _load(self, index: int) -> tuple[Tensor, Tensor]:
        case = self.cases[index]
        image, label = (torch.from_numpy(array) for array in (case.image(), case.label()))
        tensors = image[None], label
        if self.in_ram:
            self._held[index] = tensors
        return tensors

    def _augmented(
        self, image: Tensor, label: Tensor, index: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        import torchio as tio

        subject = tio.Subject(
            image=tio.ScalarImage(tensor=image.clone()),
            label=tio.LabelMap(tensor=label.clone()[None]),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, epoch, index))
            subject = self.augmentation(subject)  # type: ignore[misc]
        # TorchIO resamples labels as float32, though by nearest neighbour.
        return subject.image.data.float(), subject.label.data[0].to(label.dtype)


class EpochSampler(Sampler):
    """Shuffles by seed and epoch alone, so a resumed run meets the same order.

    Yields pairs ``(index, epoch)``, by which the augmentation is drawn in any worker. Several
    processes share every batch of the one order, so their mean gradient is that of one process.

    Args:
        length: number of cases.
        seed: of the order.
        epoch: to begin with.
        batch_size: cases per step, of all processes together.
        rank, world: this process among all.
        start: steps of the first epoch that were done before.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        epoch: int = 0,
        *,
        batch_size: int = 1,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        self.length, self.seed, self.epoch = length, seed, epoch
        self.batch_size, self.rank, self.world, self.start = batch_size, rank, world, start

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        for first in range(self.start * self.batch_size, self.length, self.batch_size):
            batch = order[first : first + self.batch_size]
            share = -(-len(batch) // self.world)
            batch *= self.world  # a short last batch is filled from its start
            for index in batch[self.rank * share : (self.rank + 1) * share]:
                yield index, self.epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return (whole * self.batch_size + -(-rest // self.world) * self.world) // self.world


class SegmentationData(L.LightningDataModule):
    """The loaders of one run: n training cases of a seed, and the fixed validation and test cases.

    Args:
        task: the data.
        n: number of training cases.
        seed: draws them, their order and their augmentation.
        batch_size: cases per training step, shared by all devices; validation and test take one
            at a time.
        workers: processes that load; 0 loads in the training process, fastest without augmentation.
        in_ram: hold training and validation cases in memory.
        augmentation: a TorchIO transform for the training cases.
    """

    def __init__(
        self,
        task: Task,
        n: int,
        seed: int,
        *,
        batch_size: int = 1,
        workers: int = 0,
        in_ram: bool = True,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.task, self.n, self.seed = task, n, seed
        self.batch_size, self.workers, self.in_ram = batch_size, workers, in_ram
        self.augmentation = augmentation
        self.preparer = Preparer.of(task)
        self.preprocessing = self.preparer.preprocessing
        self.drawn = task.draw(n, seed)
        self.training: CaseDataset
        self.validation: CaseDataset
        self.test: CaseDataset

    def prepare_data(self) -> None:
        """Verify and preprocess the whole cohort: no run of a sweep finds a bad case late."""
        self.preparer(self.task.found.cases, self.task.digests, sizes_only=True)

    def setup(self, stage: str | None = None) -> None:
        """Make the three data sets."""
        split = self.task.subjects
        cases = self.task.cases([*self.drawn, *split.validation, *split.test])
        prepared = {one.case.name: one for one in self.preparer(cases, self.task.digests)}

        def dataset(names: Sequence[str], **options: Any) -> CaseDataset:
            return CaseDataset([prepared[name] for name in names], **options)

        self.training = dataset(
            self.drawn, in_ram=self.in_ram, augmentation=self.augmentation, seed=self.seed
        )
        self.validation = dataset(split.validation, in_ram=self.in_ram)
        self.test = dataset(split.test, in_ram=False)

    def train_dataloader(self) -> DataLoader:
        """Training cases in the order of the seed and epoch."""
        rank, world = self._place()
        # Lightning makes the first iterator before it tells the epoch; a resumed run has one.
        sampler = EpochSampler(
            len(self.training),
            self.seed,
            self.trainer.current_epoch if self.trainer else 0,
            batch_size=self.batch_size,
            rank=rank,
            world=world,
            start=self._steps_done(),
        )
        return self._loader(self.training, batch_size=self.batch_size // world, sampler=sampler)

    def val_dataloader(self) -> DataLoader:
        """Validation cases, one at a time; several processes share them."""
        rank, world = self._place()
        return self._loader(self.validation, sampler=range(rank, len(self.validation), world))

    def test_dataloader(self) -> DataLoader:
        """Test cases, one at a time."""
        return self._loader(self.test)

    def _place(self) -> tuple[int, int]:
        """This process among those that train together."""
        rank, world = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        if self.batch_size % world:
            raise FdsegError(
                f"loader.batch_size={self.batch_size}: {world} devices cannot share it evenly. It "
                f"counts the cases of all devices; write loader.batch_size={world} or a multiple."
            )
        return rank, world

    def _steps_done(self) -> int:
        """Steps of the epoch in which a checkpoint was made; 0 where it was made at its end."""
        if not self.trainer:
            return 0
        # Lightning counts a step as completed only after the callbacks that end it.
        done = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return done.ready if done.completed < done.ready else 0

    def _loader(self, dataset: CaseDataset, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_ignore_ctrl_c,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def _ignore_ctrl_c(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all processes, to the one that trains."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def derived_seed(*parts: int) -> int:
    """A seed made of several numbers, such as a run's seed and an epoch."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
