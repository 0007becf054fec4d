"""Write a task's whole synthetic cohort in its own layout on disk."""

import csv
import gzip
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from fdseg.data.cases import volumes
from fdseg.data.phantom.blob import Traits, blob, noise
from fdseg.data.phantom.canvas import Array, Grid, render
from fdseg.data.phantom.head import brain, temporal_lobe
from fdseg.data.phantom.trunk import abdomen, chest
from fdseg.drafts import draft
from fdseg.errors import FdsegError
from fdseg.progress import progress

WORKERS = min(4, os.cpu_count() or 1)  # threads: numpy and zlib let go of the lock

# ICEBERG (paper, section 3): participants by group, and with the dentate hidden by artefacts.
GROUPS = {("HC", False): 17, ("PD", False): 39, ("iRBD", False): 11}
GROUPS |= {("HC", True): 1, ("PD", True): 7, ("iRBD", True): 5}
# Task04: of the 170 people behind the 260 labelled crops, 90 have both sides among them.
SIDES = {(1, 2): 90, (1,): 40, (2,): 40}


def deal(counts: dict[Any, int], seed: int) -> list[Any]:
    """Every kind as often as `counts` says, mixed so that any beginning has about its shares.

    >>> deal({"a": 4, "b": 2}, seed=0)[:3].count("a")
    2
    """
    rng = np.random.default_rng(seed)
    ranks = [
        ((k + u) / n, i) for i, n in enumerate(counts.values()) for k, u in enumerate(rng.random(n))
    ]
    return [list(counts)[i] for _, i in sorted(ranks)]


def save(path: Path, voxels: Array, affine: Array) -> None:
    """Write NIfTI [X, Y, Z]; equal voxels give equal bytes."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=3, mtime=0))


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def save_table(path: Path, rows: Iterable[tuple]) -> None:
    """Write a tab-separated table as BIDS wants it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


def oblique(rng: np.random.Generator, degrees: float) -> Array:
    """A small random rotation, shape [3, 3]."""
    return Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()


def save_iceberg(
    folder: Path, number: int, who: tuple[str, bool], key: list[int], scale: float
) -> None:
    """One participant: susceptibility in ppm, and labels with no dentate behind an artefact."""
    group, artefact = who
    rng = np.random.default_rng([*key, 2])
    grid = Grid((160, 160, 128), (1.0, 1.0, 1.0)).scaled(scale)
    affine = grid.affine(oblique(rng, 5), rng.normal((0, -20, 2), 4))
    image, label = render(brain, grid, key, group=group, artefact=artefact)
    name = f"sub-{number:03d}"
    save(folder / name / "anat" / f"{name}_Chimap.nii.gz", image, affine)
    labels = folder / "derivatives" / "labels" / name / "anat"
    save(labels / f"{name}_dseg.nii.gz", label, affine)


def describe_iceberg(folder: Path, people: list[tuple[str, bool]], record: dict[str, Any]) -> None:
    """The BIDS files of the raw data and of the labels."""
    title = {"Name": "ICEBERG, synthetic phantom", "BIDSVersion": "1.9.0"}
    save_json(
        folder / "dataset_description.json", title | {"DatasetType": "raw", "Phantom": record}
    )
    labels = folder / "derivatives" / "labels"
    made = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "fdseg"}]}
    save_json(labels / "dataset_description.json", title | made)
    structures = [("index", "name"), (1, "red nucleus"), (2, "dentate nucleus")]
    save_table(labels / "dseg.tsv", structures)
    rows = [(f"sub-{k:03d}", group) for k, (group, _) in enumerate(people, 1)]
    save_table(folder / "participants.tsv", [("participant_id", "group"), *rows])


def save_msd(folder: Path, name: str, image: Array, label: Array, affine: Array) -> None:
    """Write one case of the MSD."""
    save(folder / "imagesTr" / f"{name}.nii.gz", image, affine)
    save(folder / "labelsTr" / f"{name}.nii.gz", label, affine)


def describe_msd(name: str, modality: str, *structures: str) -> Callable[..., None]:
    """What writes `dataset.json` for the structures 1, 2, …"""

    def describe(folder: Path, _: list[Any], record: dict[str, Any]) -> None:
        files = [path.name for path in volumes(folder / "imagesTr")]
        content = {
            "name": name,
            "description": f"{name}: a synthetic phantom made by fdseg, no patient's data",
            "reference": "fdseg.data.phantom",
            "licence": "CC0 1.0",
            "release": "1.0",
            "tensorImageSize": "3D",
            "modality": {"0": modality},
            "labels": {str(k): s for k, s in enumerate(("background", *structures))},
            "numTraining": len(files),
            "numTest": 0,
            "training": [{"image": f"./imagesTr/{f}", "label": f"./labelsTr/{f}"} for f in files],
            "test": [],
            "phantom": record,
        }
        save_json(folder / "dataset.json", content)

    return describe


def save_spleen(folder: Path, number: int, _: Any, key: list[int], scale: float) -> None:
    """One CT scan in HU, stored left to right as scanners do."""
    rng = np.random.default_rng([*key, 2])
    pixel, slice_mm = rng.uniform(0.7, 0.9), rng.choice([2.5, 3.0, 4.0, 5.0])
    slices = int(np.clip(round(rng.uniform(265, 310) / slice_mm), 60, 110))
    grid = Grid((512, 512, slices), (pixel, pixel, slice_mm), (-1, 1, 1)).scaled(scale)
    image, label = render(abdomen, grid, key)
    image = np.clip(np.rint(image), -1024, 3071).astype(np.int16)
    affine = grid.affine(np.eye(3), rng.normal((0, 0, -150), (5, 20, 100)))
    save_msd(folder, f"spleen_{number:02d}", image, label, affine)


def save_heart(folder: Path, number: int, veins: int, key: list[int], scale: float) -> None:
    """One MR scan, in the scanner's whole numbers."""
    rng = np.random.default_rng([*key, 2])
    grid = Grid((320, 320, int(rng.integers(90, 131))), (1.25, 1.25, 1.37), (-1, 1, 1)).scaled(
        scale
    )
    image, label = render(chest, grid, key, veins=veins)
    image = np.rint(np.abs(image) * np.float32(rng.uniform(150, 900)))
    affine = grid.affine(oblique(rng, 4), rng.normal(0, 20, 3))
    save_msd(folder, f"la_{number:03d}", image, label, affine)


def save_hippocampus(
    folder: Path, number: int, sides: tuple[int, ...], key: list[int], scale: float
) -> None:
    """One person's sides, files 2k−1 and 2k: one scan, so one intensity scale and one noise."""
    rng = np.random.default_rng([*key, 2])
    peak, sigma = 10 ** rng.uniform(2, 6), rng.uniform(0.03, 0.07)
    size, cut = rng.uniform(0.93, 1.06), rng.normal(3.5, 1)
    extent = np.clip(rng.normal((35, 50, 36), (1.5, 2.5, 3)) * size, (32, 43, 32), (42, 58, 46))
    for side in sides:
        own = np.random.default_rng([*key, 3, side])
        shape = tuple(int(n) for n in np.round(extent + own.uniform(-1, 1, 3)))
        grid = Grid(shape, (1.0, 1.0, 1.0)).scaled(scale)
        image, label = render(
            temporal_lobe,
            grid,
            [*key, side],
            size=size,
            cut_mm=cut + own.normal(0, 0.5),
            sigma=sigma,
        )
        image = np.maximum(image, 0) * np.float32(peak / 1.8)
        if peak < 256:
            image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        affine = grid.affine(np.eye(3), 0.5 + grid.fov_mm / 2)
        save_msd(folder, f"hippocampus_{2 * number - 2 + side:03d}", image, label, affine)


def save_blob(
    folder: Path, number: int, _: Any, key: list[int], scale: float, traits: Traits
) -> None:
    """One volume; subjects of the same number differ by their cohorts' traits only."""
    grid = Grid((24, 24, 16), (1.0, 1.0, 1.0)).scaled(scale)
    image, label = render(blob, grid, key, traits=traits)
    image += np.float32(traits.noise) * noise(np.random.default_rng([*key, 2]), grid, traits.slope)
    save_msd(folder, f"blob_{number:03d}", image, label, grid.affine(np.eye(3), (0, 0, 0)))


@dataclass(frozen=True)
class Cohort:
    """How many subjects of which kind there are, and what writes one subject and the rest.

    `traits` is what can be chosen of it beside, if anything; it is given to `save`.
    """

    folder: str
    kinds: dict[Any, int]
    save: Callable[..., None]
    describe: Callable[[Path, list[Any], dict[str, Any]], None]
    traits: type[Traits] | None = None


ICEBERG = Cohort("ICEBERG", GROUPS, save_iceberg, describe_iceberg)
# A folder's place in the alphabet seeds its subjects: a new one comes last, or changes others.
COHORTS = {
    "red_nucleus": ICEBERG,
    "dentate_nucleus": ICEBERG,
    "spleen": Cohort(
        "Task09_Spleen", {None: 41}, save_spleen, describe_msd("Spleen", "CT", "spleen")
    ),
    "heart": Cohort(
        "Task02_Heart", {4: 14, 3: 4, 2: 2}, save_heart, describe_msd("Heart", "MRI", "left atrium")
    ),
    "hippocampus": Cohort(
        "Task04_Hippocampus",
        SIDES,
        save_hippocampus,
        describe_msd("Hippocampus", "MRI", "Anterior", "Posterior"),
    ),
    "blob": Cohort(
        "Task99_Blob", {None: 54}, save_blob, describe_msd("Blob", "synthetic", "blob"), Traits
    ),
}


def check(target: Path, record: dict[str, Any]) -> Path:
    """Return a cohort that is already there, if it is the one that was asked for."""
    for name, key in (("dataset.json", "phantom"), ("dataset_description.json", "Phantom")):
        if (target / name).is_file():
            there = json.loads((target / name).read_text(encoding="utf-8")).get(key)
            if there == record:
                return target
            found = f"the phantom {there}" if there else "a cohort that is no phantom"
            raise FdsegError(
                f"{target}: here is {found}, not the phantom {record}. "
                "Choose another folder, or remove this one."
            )
    raise FdsegError(f"{target}: here is no cohort. Choose another folder, or remove this one.")


def choose(task: str, traits: dict[str, Any]) -> dict[str, Traits]:
    """The traits of a cohort as what its `save` takes; nothing for those that have none."""
    kind = COHORTS[task].traits
    known = {field.name for field in fields(kind)} if kind else set()
    if wrong := sorted(known ^ traits.keys()):
        raise FdsegError(
            f"{', '.join(wrong)}: the phantom of {task} has "
            + (
                f"the traits {', '.join(sorted(known))}; give each of them."
                if kind
                else "no traits."
            )
        )
    return {"traits": kind(**traits)} if kind else {}


def write_phantom(
    task: str,
    folder: Path,
    *,
    scale: float,
    seed: int = 0,
    subjects: int | None = None,
    **traits: Any,
) -> Path:
    """Write the synthetic cohort of `task` below `folder` and return the cohort's own folder.

    `scale` multiplies the voxels along every axis at a constant field of view in mm; 1 gives the
    sizes of the real cohort. `subjects` keeps the first participants only; who they are does not
    depend on it. `traits` are those of the cohort, all or none. The folder appears complete or not
    at all, and one that is there is returned.

    Raises:
        FdsegError: an argument is out of its range, or another cohort is in the place.
    """
    if task not in COHORTS:
        raise FdsegError(
            f"task={task!r}: there is no such phantom. Choose from {', '.join(COHORTS)}."
        )
    if not 0 < scale <= 1:
        raise FdsegError(
            f"scale={scale}: must lie above 0 and not above 1 (the native resolution)."
        )
    if subjects is not None and subjects < 1:
        raise FdsegError(f"subjects={subjects}: must be at least 1, or None for the whole cohort.")
    cohort, chosen = COHORTS[task], choose(task, traits)
    people = deal(cohort.kinds, seed)[:subjects]
    record = {"scale": scale, "seed": seed, "subjects": len(people), **traits}
    target = Path(folder) / cohort.folder
    if target.exists():
        return check(target, record)

    number = sorted(c.folder for c in COHORTS.values()).index(cohort.folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with draft(target) as partial:
        partial.mkdir()
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = pool.map(
                lambda k: cohort.save(
                    partial, k, people[k - 1], [seed, number, k], scale, **chosen
                ),
                range(1, len(people) + 1),
            )
            title = f"Writing the phantom {target.name}"
            for _ in progress(jobs, title, "subject", total=len(people)):
                pass
        cohort.describe(partial, people, record)
        try:
            partial.rename(target)
        except OSError:  # another process was first: its cohort is as good as ours
            if not target.exists():
                raise
    return target
