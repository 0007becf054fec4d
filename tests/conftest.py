"""Tiny cohorts on disk in each layout, to be read or broken, and the real ones where they are."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # as the commands do, before torch starts threads
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist has a process for each core

import csv
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import compose
from hydra.utils import instantiate
from hypothesis import settings
from omegaconf import OmegaConf

from fdseg import config as configuration
from fdseg.data.cases import Case
from fdseg.data.iceberg import BIDSCohort
from fdseg.data.msd import MSDCohort
from fdseg.data.task import Task
from fdseg.runs import write_text

# How long an example takes says more of what else the machine does than of fdseg.
settings.register_profile("fdseg", deadline=None)
settings.load_profile("fdseg")

SHAPE = (10, 13, 8)
# Anisotropic, and turned by 10° about z; its first axis points to the left.
COSINE, SINE = np.cos(np.radians(10)), np.sin(np.radians(10))
AFFINE = np.array(
    [
        [-0.8 * COSINE, -1.1 * SINE, 0, 40],
        [-0.8 * SINE, 1.1 * COSINE, 0, -25],
        [0, 0, 1.5, 7],
        [0, 0, 0, 1],
    ]
)


@dataclass
class Files:
    """A cohort on disk, with the means to break it."""

    root: Path
    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    labels: dict[str, Path] = field(default_factory=dict)

    def case(self, name: str) -> Case:
        return Case(name, self.images[name], self.labels[name], name)

    def cases(self) -> list[Case]:
        return [self.case(name) for name in self.images]

    def image(self, name: str) -> np.ndarray:
        return nib.load(self.images[name]).get_fdata()

    def label(self, name: str) -> np.ndarray:
        return np.asarray(nib.load(self.labels[name]).dataobj)

    def write_image(self, name: str, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
        self._write(self.images[name], voxels, affine)

    def write_label(self, name: str, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
        self._write(self.labels[name], voxels, affine)

    def add(self, name: str, image: Path, label: Path) -> None:
        """A volume of noise in which two boxes, the structures 1 and 2, are brighter."""
        rng = np.random.default_rng(len(self.images))
        values = np.zeros(SHAPE, np.uint8)
        values[2:5, 3:8, 2:6] = 1
        values[5:8, 4:9, 1:5] = 2
        self.images[name], self.labels[name] = image, label
        self.write_image(name, (100 * values + rng.normal(50, 10, SHAPE)).astype(np.float32))
        self.write_label(name, values)

    @staticmethod
    def _write(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), path)


@pytest.fixture
def msd(tmp_path: Path) -> Files:
    """Ten files of six people: four pairs, and the one side of two more."""
    files = Files(tmp_path / "data", tmp_path / "data" / "Task99_Toy")
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12):
        name = f"toy_{number:03}.nii.gz"
        files.add(
            name.removesuffix(".nii.gz"),
            files.folder / "imagesTr" / name,
            files.folder / "labelsTr" / name,
        )
    entries = [
        {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in files.images
    ]
    (files.folder / "dataset.json").write_text(json.dumps({"name": "Toy", "training": entries}))
    return files


@pytest.fixture
def iceberg(tmp_path: Path) -> Files:
    """Six participants in three groups, in BIDS layout."""
    files = Files(tmp_path / "data", tmp_path / "data" / "ICEBERG")
    rows = [("participant_id", "age", "group")]
    for number, group in enumerate(("HC", "PD", "PD", "iRBD", "HC", "PD"), start=1):
        name = f"sub-{number:02}"
        labels = files.folder / "derivatives" / "labels"
        files.add(
            name,
            files.folder / name / "anat" / f"{name}_Chimap.nii.gz",
            labels / name / "anat" / f"{name}_dseg.nii.gz",
        )
        rows.append((name, "60", group))
    with (files.folder / "participants.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)
    return files


@pytest.fixture
def iceberg_cohort() -> Callable[..., BIDSCohort]:
    """The cohort as it is configured, with some options changed."""

    def make(**options: object) -> BIDSCohort:
        patterns = {
            "image": "{participant}/anat/{participant}_Chimap.nii.gz",
            "label": "derivatives/labels/{participant}/anat/{participant}_dseg.nii.gz",
        }
        return BIDSCohort("ICEBERG", **(patterns | options))

    return make


@pytest.fixture
def make_task(msd: Files, tmp_path: Path) -> Callable[..., Task]:
    """A task on the tiny MSD cohort, with some options changed."""

    def make(**options: object) -> Task:
        values = {
            "name": "toy",
            "cohort": MSDCohort("Task99_Toy", participant="pairs"),
            "structures": {"front": 1, "back": 2},
            "size": (12, 14, 8),
            "reshape": "crop_or_pad",
            "split": {"training": 6, "validation": 2, "test": 2},
            "cache": tmp_path / "cache",
            "root": msd.root,
        }
        return Task(**(values | options))

    return make


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared cases, made once for the trainings of a file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Writes what prediction needs of a run, with weights that nobody trained."""

    def make(folder: Path, *overrides: str, weights: int = 0) -> Path:
        words = ["data.root=/data", "data.size=[16,20,12]", "theta=0.3", *overrides]
        config = configuration.resolve(compose("train", *words))
        config.trainer.precision = "32-true"
        write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        torch.manual_seed(weights)
        network = instantiate(config.network, structures=len(config.data.structures))
        state = {f"network.{name}": value for name, value in network.state_dict().items()}
        for checkpoint in ("best", "last"):
            path = folder / "checkpoints" / f"{checkpoint}.ckpt"
            path.parent.mkdir(exist_ok=True)
            torch.save({"state_dict": state}, path)
        return folder

    return make


@dataclass
class Disk:
    """A file system of its own, 48 KiB large at first."""

    folder: Path

    def enlarge(self) -> None:
        self.mount("-o", "remount,size=64m")

    def fill(self) -> None:
        with suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(512))

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    def mount(self, *options: str) -> None:
        done = subprocess.run(
            ["mount", *options, str(self.folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()})")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that is soon full."""
    if not shutil.which("mount"):
        pytest.skip("there is no mount command to make a small disk with")
    disk = Disk(tmp_path / "disk")
    disk.folder.mkdir()
    disk.mount("-t", "tmpfs", "-o", "size=48k", "tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk.folder)], check=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds the real cohorts."""
    root = os.environ.get("FDSEG_DATA")
    if not root:
        pytest.skip("FDSEG_DATA is not set: the real cohorts are not here")
    return Path(root)
