"""A segmentation task: its cohort, structures, grid, and the split of its cases."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fdseg.data.cases import Case, Cohort, require_structures
from fdseg.data.download import Archive
from fdseg.data.splits import PARTS, Split, draw, make_split, read_split
from fdseg.errors import FdsegError
from fdseg.runs import sha256, write_text
from fdseg.terminal import counted
from fdseg.values import require_value


@dataclass(frozen=True)
class Task:
    """Everything about the data of a task that does not need to read a voxel.

    Args:
        name: of the task.
        cohort: finds the cases below a root, but for those to exclude.
        structures: name of each structure and its value in the label files.
        size: the network's grid X, Y, Z in voxels.
        reshape: how volumes come to this grid, ``crop_or_pad`` or ``resize``.
        sizes: the training sizes n of the paper.
        split: ``training``, ``validation``, ``test`` (numbers of cases of the complete cohort),
            ``by`` (participant or file), ``seed``, and ``file``, a split to be used instead.
        root: folder that holds the cohorts' folders; ``None`` stands for the phantom cohort.
        cache: folder for prepared cases and phantoms.
        phantom: ``scale``, ``seed`` and ``subjects`` of the phantom cohort; where it is not the
            task's own, which ``cohort`` it is, and its traits.
        ignore: label values that count as background.
        exclude: names of cases to leave out.
        unlabelled: ``error``, a case whose label holds no voxel of a structure is an error;
            ``leave_out``, it is left out and listed.
        archive: of the cohort on the web, where there is one.
    """

    name: str
    cohort: Callable[[Path, Sequence[str]], Cohort]
    structures: dict[str, int]
    size: tuple[int, int, int]
    reshape: str
    split: dict[str, Any]
    cache: Path
    root: Path | None = None
    phantom: dict[str, Any] | None = None
    sizes: Sequence[int] = ()
    ignore: Sequence[int] = ()
    exclude: Sequence[str] = ()
    unlabelled: str = "error"
    archive: Archive | None = None

    def __post_init__(self) -> None:
        require_structures(self.structures, "data.structures")

    @property
    def is_phantom(self) -> bool:
        """Whether the cohort is synthetic."""
        return self.root is None

    @cached_property
    def found(self) -> Cohort:
        """The cases to work with, and those left out with the reason.

        Raises:
            FdsegError: the cohort is missing, incomplete or ambiguous.
        """
        require_value("data.unlabelled", self.unlabelled)
        cohort = self.cohort(self._root(), self.exclude)
        unknown = [name for name in self.exclude if name not in cohort.left_out]
        if unknown:
            raise FdsegError(
                f"data.exclude names {', '.join(unknown)}, which {cohort.folder} does not hold. "
                "Names are those of the image files without their ending, or BIDS participants, "
                "with sessions as in sub-01_ses-01."
            )
        left_out = dict(cohort.left_out)
        if self.unlabelled == "leave_out":
            left_out |= self._unlabelled(cohort.cases)
        cases = tuple(case for case in cohort.cases if case.name not in left_out)
        return replace(cohort, cases=cases, left_out=left_out)

    @cached_property
    def subjects(self) -> Split:
        """Which cases train, validate and test."""
        options = dict(self.split)
        file = options.pop("file", None)
        if file is not None:
            return read_split(Path(file), self.found.cases, options.get("by", "participant"))
        return make_split(self.found.cases, **options)

    def draw(self, n: int, seed: int) -> tuple[str, ...]:
        """The n training cases of a seed, the same for every fusion."""
        return draw(self.subjects.training, n, seed)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Per case a hash of the content of its two files."""
        facts = _Facts(Path(self.cache) / "files.json")
        digests = {
            case.name: facts.digest(case.image) + facts.digest(case.label)
            for case in self.found.cases
        }
        facts.save()
        return digests

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all cases' content and the split: the same data, the same fingerprint."""
        text = json.dumps([sorted(self.digests.items()), self.subjects.to_json()])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def cases(self, names: Sequence[str]) -> list[Case]:
        """The cases of these names, in their order."""
        by_name = {case.name: case for case in self.found.cases}
        return [by_name[name] for name in names]

    def summary(self) -> str:
        """For a person: how many cases of how many participants, and what is left out."""
        counts = ", ".join(f"{len(getattr(self.subjects, p))} {p}" for p in PARTS)
        people = len({case.participant for case in self.found.cases})
        text = f"{self.name}: {counted(len(self.found.cases), 'case')} of "
        text += f"{counted(people, 'participant')} ({counts})"
        if self.found.left_out:
            reasons: dict[str, list[str]] = {}
            for name, reason in self.found.left_out.items():
                reasons.setdefault(reason, []).append(name)
            for reason, names in reasons.items():
                text += f"\n  left out, {reason}: {', '.join(names)}"
        return text

    def download(self) -> Path:
        """The cohort's folder below ``root``, fetched from the web unless it is there.

        Raises:
            FdsegError: there is no root or no archive, or it cannot be fetched.
        """
        if self.root is None:
            raise FdsegError(
                "download=true: data.root (or FDSEG_DATA) is unset. Name the folder below which "
                "the cohort is to lie."
            )
        if self.archive is None:
            raise FdsegError(
                f"download=true: {self.name} has no data.archive. Lay its files below data.root."
            )
        return self.archive.fetch(self._root())

    def _root(self) -> Path:
        if self.root is not None:
            return Path(self.root).expanduser()
        from fdseg.data.phantom import write_phantom

        options = dict(self.phantom or {})
        tag = "-".join(f"{key}{value}" for key, value in sorted(options.items()))
        cohort = options.pop("cohort", self.name)
        folder = Path(self.cache) / "phantom" / tag
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_phantom(cohort, folder, **options)
        except OSError as error:
            raise FdsegError(
                f"{folder}: the phantom cohort cannot be written ({error.strerror}). Choose a "
                "folder that can be written with data.cache=…"
            ) from None
        return folder

    def _unlabelled(self, cases: Sequence[Case]) -> dict[str, str]:
        """Per case whose label lacks a structure, which it lacks."""
        facts = _Facts(Path(self.cache) / "files.json")
        reasons = {}
        for case in cases:
            try:
                values = facts.label_values(case.label)
            except FdsegError:
                continue  # a broken file is no reason to leave out: preparing reports all of them
            absent = [name for name, value in self.structures.items() if value not in values]
            if absent:
                reasons[case.name] = f"no voxel of {', '.join(absent)}"
        facts.save()
        return reasons


class _Facts:
    """What was once found out about files, as long as their size and times stay the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError):
            facts = None
        self.facts: dict[str, Any] = facts if isinstance(facts, dict) else {}
        self.changed = False

    def digest(self, path: Path) -> str:
        return self._fact(path, "sha256", _sha256)

    def label_values(self, path: Path) -> list[int]:
        return self._fact(path, "values", _values)

    def save(self) -> None:
        """Write the index; only a shortcut, so a folder that can't be written is no error here."""
        if not self.changed:
            return
        with suppress(OSError):
            write_text(self.path, json.dumps(self.facts))

    def _fact(self, path: Path, name: str, find: Callable[[Path], Any]) -> Any:
        stat = path.stat()
        # The time of change too: copying tools restore the other one.
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        key = str(path.resolve())
        fact = self.facts.get(key)
        if not isinstance(fact, dict) or fact.get("state") != state:
            fact = self.facts[key] = {"state": state}
        if name not in fact:
            fact[name] = find(path)
            self.changed = True
        return fact[name]


def _sha256(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise FdsegError(f"{path}: cannot be read ({error.strerror}). Mend the file.") from None


def _values(path: Path) -> list[int]:
    import numpy as np

    from fdseg.data.nifti import read_label

    return np.unique(read_label(path).data).tolist()
