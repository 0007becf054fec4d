"""Cases verified and preprocessed once, kept as plain arrays under a hash of their content."""

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fdseg.data.cases import Case
from fdseg.data.memory import available
from fdseg.data.nifti import Volume, grid_difference, open_volume, read_label, read_volume
from fdseg.data.prepared import PreparedCase, read_record, seal
from fdseg.data.preprocess import Geometry, Preprocessing, unusable
from fdseg.data.problems import Problem, UnusableCases, raise_all
from fdseg.data.task import Task
from fdseg.drafts import draft
from fdseg.errors import FdsegError
from fdseg.progress import progress
from fdseg.runs import sha256, whole, write_text
from fdseg.terminal import counted

_BYTES_PER_VOXEL = 32  # of the volume and of the grid, while a case is prepared (12 to 28 measured)
VERSION = 1  # of the preprocessing: a change of what it computes makes a new hash


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

    @classmethod
    def of(cls, task: Task) -> "Preparer":
        """The one of a task, in the task's own cache."""
        return cls(
            folder=Path(task.cache) / task.name,
            preprocessing=Preprocessing(tuple(task.size), task.reshape),  # type: ignore[arg-type]
            structures=task.structures,
            ignore=task.ignore,
        )

    def __call__(
        self, cases: Sequence[Case], digests: Mapping[str, str], *, sizes_only: bool = False
    ) -> list[PreparedCase]:
        """Prepare all cases that are not whole in the cache, in parallel, and return all of them.

        Args:
            cases: what to prepare.
            digests: per case the hash of its files' content.
            sizes_only: tell what is whole by the sizes of the arrays' files; else by their bytes,
                which each process reads once.

        Raises:
            FdsegError: some cases are unusable, all listed at once; or the cache can't be written.
        """
        folders = [self.folder / self._key(digests[case.name]) for case in cases]
        records = {folder: read_record(folder, sizes_only=sizes_only) for folder in folders}
        missing = [
            PreparedCase(case, folder)
            for case, folder in zip(cases, folders, strict=True)
            if records[folder] is None
        ]
        if missing:
            self._prepare_all(missing, len(cases))
            records |= {one.folder: read_record(one.folder, sizes_only=True) for one in missing}
        return [
            PreparedCase(case, folder, records[folder])
            for case, folder in zip(cases, folders, strict=True)
        ]

    def _prepare_all(self, missing: Sequence[PreparedCase], cases: int) -> None:
        if damaged := [one for one in missing if one.folder.exists()]:
            print(
                f"{self.folder}: {len(damaged)} prepared cases are damaged or have no digest "
                f"({damaged[0].case.name}, for example). They are prepared again.",
                file=sys.stderr,
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FdsegError(
                f"{self.folder}: the cache cannot be made ({error.strerror}). Choose a folder that "
                "can be written with data.cache=…"
            ) from None
        with ThreadPoolExecutor(self._workers(missing)) as pool:
            outcomes = list(
                progress(
                    pool.map(self._prepare, missing), "Preparing cases", "case", total=len(missing)
                )
            )
        problems = [problem for outcome in outcomes for problem in outcome]
        unusable = len({problem.subject for problem in problems})
        raise_all(problems, f"{unusable} of {counted(cases, 'case')} cannot be used:")

    def _workers(self, missing: Sequence[PreparedCase]) -> int:
        """As many as there are processors, but no more than memory is there for."""
        largest = 0
        for prepared in missing:
            with suppress(FdsegError):  # it is reported when its turn comes
                largest = max(largest, math.prod(open_volume(prepared.case.image).shape))
        each = _BYTES_PER_VOXEL * (largest + math.prod(self.preprocessing.size))
        return max(1, min(os.cpu_count() or 1, available() // 2 // each))

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

    def _prepare(self, prepared: PreparedCase) -> Sequence[Problem]:
        """Write one case; return what is wrong with it, if it is the case that is wrong."""
        try:
            image, label = verify(prepared.case, self.structures, self.ignore)
        except UnusableCases as error:
            return error.problems
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
        return ()

    def _write(
        self, prepared: PreparedCase, image: np.ndarray, label: np.ndarray, geometry: Geometry
    ) -> None:
        """Fill a folder under a temporary name and rename it: it is in the cache whole or not."""
        files = {}
        with draft(prepared.folder) as partial, draft(prepared.folder) as damaged:
            partial.mkdir()
            for name, array in (("image.npy", image), ("label.npy", label)):
                path = partial / name
                with whole(path) as file:
                    np.save(file, array)
                files[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
            record = {"case": prepared.case.name, "geometry": geometry.to_dict(), "files": files}
            write_text(partial / "case.json", json.dumps(seal(record)))
            _rename(partial, prepared.folder, damaged)


def verify(
    case: Case, structures: Mapping[str, int], ignore: Sequence[int] = ()
) -> tuple[Volume, np.ndarray]:
    """Read a case and refuse what cannot be trained on.

    Returns:
        The volume, and its label map (uint8) with the structures numbered from 1.

    Raises:
        UnusableCases: a file is broken; shapes or affines differ; voxels are constant or not
            finite; label values lie outside the task; a structure is missing. All that is found.
    """
    problems: list[Problem] = []

    def found(what: str, remedy: str) -> None:
        leave_out = f"or leave the subject out with data.exclude=[{case.name}]."
        problems.append(Problem(case.name, what, f"{remedy} {leave_out}"))

    def read(path: Path, reader: Callable[[Path], Any]) -> Any:
        try:
            return reader(path)
        except FdsegError as error:
            found(str(error), "Mend the file")

    def refuse() -> None:
        raise_all(problems, f"{case.name}: {len(problems)} problems:")

    image_head, label_head = read(case.image, open_volume), read(case.label, open_volume)
    refuse()
    if difference := grid_difference(label_head, image_head, ("label", "image")):
        found(f"{difference} ({_short(case.label)}).", "Resample the label to the image,")
    refuse()
    image, labels = read(case.image, read_volume), read(case.label, read_label)
    refuse()
    if fault := unusable(image.data):
        found(f"{fault[0]} ({_short(case.image)}).", f"{fault[1]},")
    label = labels.data
    values = set(np.unique(label).tolist())
    if foreign := sorted(values - {0, *structures.values(), *ignore}):
        known = ", ".join(f"{name} {value}" for name, value in structures.items())
        found(
            f"label values {foreign} lie outside the task ({known}) ({_short(case.label)}).",
            f"Name values that are to count as background in data.ignore={foreign},",
        )
    if absent := [name for name, value in structures.items() if value not in values]:
        found(
            f"the label is empty: no voxel of {', '.join(absent)} ({_short(case.label)}).",
            "Complete it, set data.unlabelled=leave_out,",
        )
    refuse()
    return image, number(label, structures)


def number(values: np.ndarray, structures: Mapping[str, int]) -> np.ndarray:
    """A label map of the files' values, with the structures numbered from 1 (uint8)."""
    numbered = np.zeros(values.shape, np.uint8)
    for n, value in enumerate(structures.values(), start=1):
        numbered[values == value] = n
    return numbered


def _rename(partial: Path, folder: Path, damaged: Path) -> None:
    """Give a whole case its name; one that is damaged there goes to the third path."""
    for aside in (None, damaged):
        try:
            if aside and folder.exists():
                folder.rename(aside)
            partial.rename(folder)
            return
        except OSError:
            if read_record(folder) is not None:
                return  # another process was first, with the same content
            if aside:
                raise


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
