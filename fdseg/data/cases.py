"""Cases: one volume with its label, and the cohort they belong to."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fdseg.errors import FdsegError


@dataclass(frozen=True)
class Case:
    """One volume of one person, with its label.

    Attributes:
        name: unique in the cohort, used in every table.
        image: NIfTI file of the volume.
        label: NIfTI file of the label map.
        participant: the person; several cases may share one.
        group: diagnostic or other group of the person, where the cohort has groups.
    """

    name: str
    image: Path
    label: Path
    participant: str
    group: str | None = None


@dataclass(frozen=True)
class Cohort:
    """The cases found below a folder, and those left out with the reason.

    Attributes:
        folder: of the cohort.
        cases: to work with.
        left_out: why, by name.
        channel: whose files the volumes are, where the files' names tell it as nnU-Net's do.
    """

    folder: Path
    cases: tuple[Case, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    channel: int | None = None


def volume_name(path: Path) -> str:
    """The name of a volume: that of its file without ``.nii`` or ``.nii.gz``."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name)


def is_hidden(path: PurePath) -> bool:
    """Return whether a file, or a folder on the way to it, has a name that begins with a dot.

    Such names are never data: macOS leaves ``._x.nii.gz`` beside ``x.nii.gz``.

    Args:
        path: below the cohort's folder.
    """
    return any(part.startswith(".") and part != ".." for part in path.parts)


def matches(folder: Path, pattern: str) -> list[Path]:
    """Return the files that a pattern of :meth:`pathlib.Path.glob` fits, sorted, none hidden."""
    return sorted(p for p in folder.glob(pattern) if not is_hidden(p.relative_to(folder)))


def volumes(folder: Path) -> list[Path]:
    """Return the NIfTI files in a folder, sorted, none hidden; none where there is no folder."""
    return [p for p in matches(folder, "*") if p.name.endswith((".nii", ".nii.gz"))]


def require_folder(root: Path, name: str) -> Path:
    """The folder ``root/name``.

    Raises:
        FdsegError: it is not there; a missing cohort is never replaced by another.
    """
    folder = root / name
    if not folder.is_dir():
        beside = [p.name for p in matches(root, "*") if p.is_dir()] if root.is_dir() else None
        found = "does not exist" if beside is None else f"holds {', '.join(beside) or 'no folder'}"
        raise FdsegError(
            f"{folder}: no such folder ({root} {found}). data.root (or FDSEG_DATA) is the folder "
            f"that holds {name}; leave both unset to use the phantom cohort. Cohorts of the MSD "
            "are fetched by python -m fdseg.prepare … download=true."
        )
    return folder


def require_unique(names: Iterable[str], where: Path) -> None:
    """Refuse a list that names a subject twice."""
    seen: set[str] = set()
    twice = sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if twice:
        raise FdsegError(
            f"{where}: duplicate subject {', '.join(twice)}. Keep one entry for each subject."
        )


def require_structures(structures: Mapping[str, int], key: str) -> None:
    """Refuse values of structures that no label map can tell apart."""
    values = list(structures.values())
    whole = all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**15 for v in values)
    if not values or not whole or len(set(values)) < len(values):
        shown = ", ".join(f"{name}: {value}" for name, value in structures.items())
        raise FdsegError(
            f"{key}={{{shown}}}: expected a name and a value for each structure, the values "
            f"different whole numbers from 1 to {2**15 - 1}; 0 is the background."
        )
