"""Cases verified and preprocessed once, kept as plain arrays under a hash of their content."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO
from uuid import uuid4

import numpy as np

from fdseg.data.cases import Case, raise_all
from fdseg.data.nifti import Volume, open_volume, read_label, read_volume, times
from fdseg.data.preprocess import Geometry, Preprocessing, unusable
from fdseg.errors import FdsegError
from fdseg.progress import progress

VERSION = 1  # of the preprocessing: a change of what it computes makes a new hash


@dataclass(frozen=True)
class PreparedCase:
    """A case in the cache.

    Attributes:
        case: where it comes from.
        folder: holds ``image.npy``, ``label.npy`` (structures numbered from 1) and ``case.json``.
    """

    case: Case
    folder: Path

    def image(self) -> np.ndarray:
        """The image on the network's grid ``[X, Y, Z]``, float32 in [0, 1], memory-mapped."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    def label(self) -> np.ndarray:
        """The label on the network's grid ``[X, Y, Z]``, uint8, memory-mapped."""
        return np.load(self.folder / "label.npy", mmap_mode="r")

    @cached_property
    def geometry(self) -> Geometry:
        """How to bring a prediction back to the native grid."""
        return Geometry.from_dict(json.loads((self.folder / "case.json").read_text())["geometry"])


@dataclass(frozen=True)
class Preparer:
    """Verifies cases and writes them to the cache; what is in the cache was verified.

    Args:
        folder: the cache.
        preprocessing: from the native to the network's grid.
        structures: name of each structure and its value in the label files.
        ignore: other values that label files may hold; they count as background.
    """

    folder: Path
    preprocessing: Preprocessing
    structures: Mapping[str, int]
    ignore: Sequence[int] = field(default=())

    def __call__(self, cases: Sequence[Case], digests: Mapping[str, str]) -> list[PreparedCase]:
        """Prepare all cases that are not in the cache yet, in parallel, and return all of them.

        Args:
            cases: what to prepare.
            digests: per case the hash of its files' content.

        Raises:
            FdsegError: some cases are unusable, all listed at once; or the cache can't be written.
        """
        prepared = [PreparedCase(c, self.folder / self._key(digests[c.name])) for c in cases]
        missing = [p for p in prepared if not (p.folder / "case.json").is_file()]
        if not missing:
            return prepared
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FdsegError(
                f"{self.folder}: the cache cannot be made ({error.strerror}). Choose a folder that "
                "can be written with data.cache=…"
            ) from None
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            outcomes = list(
                progress(
                    pool.map(self._prepare, missing), "Preparing cases", "case", total=len(missing)
                )
            )
        problems = [problem for problem in outcomes if problem]
        raise_all(problems, f"{len(problems)} of {len(cases)} cases are unusable:")
        return prepared

    def _key(self, digest: str) -> str:
        parameters = {
            "version": VERSION,
            "content": digest,
            "size": list(self.preprocessing.size),
            "reshape": self.preprocessing.reshape,
            "structures": list(self.structures.items()),  # their order numbers them
            "ignore": list(self.ignore),
        }
        text = json.dumps(parameters, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _prepare(self, prepared: PreparedCase) -> str | None:
        """Write one case; return what is wrong with it, if it is the case that is wrong."""
        try:
            image, label = verify(prepared.case, self.structures, self.ignore)
        except FdsegError as error:
            return str(error)
        arrays = self.preprocessing(image, label)
        try:
            self._write(prepared, *arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise FdsegError(
                f"{prepared.folder}: {prepared.case.name} cannot be cached "
                f"({error.strerror or error}). "
                "Free some space, or choose another folder with data.cache=…; what was cached "
                "before stays valid."
            ) from None
        return None

    def _write(
        self, prepared: PreparedCase, image: np.ndarray, label: np.ndarray, geometry: Geometry
    ) -> None:
        """Fill a folder under a temporary name and rename it: it is in the cache whole or not."""
        partial = self.folder / f".partial-{uuid4().hex}"
        text = json.dumps({"case": prepared.case.name, "geometry": geometry.to_dict()})
        try:
            partial.mkdir()
            for name, array in (("image", image), ("label", label)):
                with (partial / f"{name}.npy").open("wb") as file:
                    np.save(file, array)
                    _flush(file)
            with (partial / "case.json").open("w", encoding="utf-8") as file:
                file.write(text)
                _flush(file)
            try:
                partial.rename(prepared.folder)
            except OSError:
                # Another process was first with the same content under the same hash.
                if not (prepared.folder / "case.json").is_file():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def verify(
    case: Case, structures: Mapping[str, int], ignore: Sequence[int] = ()
) -> tuple[Volume, np.ndarray]:
    """Read a case and refuse what cannot be trained on.

    Returns:
        The volume, and its label map (uint8) with the structures numbered from 1.

    Raises:
        FdsegError: a file is broken; shapes or affines differ; voxels are not finite or constant;
            label values lie outside the task; a structure is missing.
    """
    leave_out = f"or leave the subject out with data.exclude=[{case.name}]."
    try:
        image_head, label_head = open_volume(case.image), open_volume(case.label)
    except FdsegError as error:
        raise FdsegError(f"{case.name}: {error} Mend the file {leave_out}") from None
    where = f"({_short(case.label)})"
    if image_head.shape[:3] != label_head.shape[:3]:
        raise FdsegError(
            f"{case.name}: label has shape {times(label_head.shape)} but its image "
            f"{times(image_head.shape)} {where}. Mend the file {leave_out}"
        )
    if not np.allclose(image_head.affine, label_head.affine, atol=1e-2):
        largest = np.abs(image_head.affine - label_head.affine).max()
        raise FdsegError(
            f"{case.name}: label and image have different affines, by up to {largest:.3g} "
            f"{where}. Resample the label to the image, {leave_out}"
        )
    try:
        image, label = read_volume(case.image), read_label(case.label).data
    except FdsegError as error:
        raise FdsegError(f"{case.name}: {error} Mend the file {leave_out}") from None
    if found := unusable(image.data):
        problem, remedy = found
        raise FdsegError(f"{case.name}: {problem} ({_short(case.image)}). {remedy}, {leave_out}")
    values = set(np.unique(label).tolist())
    foreign = sorted(values - {0, *structures.values(), *ignore})
    if foreign:
        known = ", ".join(f"{name} {value}" for name, value in structures.items())
        raise FdsegError(
            f"{case.name}: label values {foreign} lie outside the task ({known}) {where}. Name "
            f"values that are to count as background in data.ignore={foreign}, {leave_out}"
        )
    absent = [name for name, value in structures.items() if value not in values]
    if absent:
        raise FdsegError(
            f"{case.name}: the label is empty: no voxel of {', '.join(absent)} {where}. "
            f"Complete it, set data.unlabelled=leave_out, {leave_out}"
        )
    return image, number(label, structures)


def number(values: np.ndarray, structures: Mapping[str, int]) -> np.ndarray:
    """A label map of the files' values, with the structures numbered from 1 (uint8)."""
    numbered = np.zeros(values.shape, np.uint8)
    for n, value in enumerate(structures.values(), start=1):
        numbered[values == value] = n
    return numbered


def _flush(file: IO) -> None:
    """To the disk before the folder gets its name: a lost power supply leaves no empty file."""
    file.flush()
    os.fsync(file.fileno())


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
