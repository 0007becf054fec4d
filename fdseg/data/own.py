"""A folder of one's own as a cohort: its layout recognised, its structures read from it."""

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fdseg.data.cases import Case, Cohort, matches, volume_name, volumes
from fdseg.data.iceberg import BIDSCohort
from fdseg.data.msd import MSDCohort
from fdseg.data.nifti import Head, open_volume
from fdseg.data.nnunet import NNUNetCohort
from fdseg.data.patterns import PatternCohort
from fdseg.errors import FdsegError

_FOLDERS = "imagesTr", "labelsTr"
_VOXELS = 160 * 160 * 128  # of a suggested grid at most: the paper's for the whole brain


class OwnCohort:
    """A folder in the layout of the MSD, of nnU-Net's raw data, or of BIDS, or by two patterns.

    Args:
        image: pattern of the volumes; with ``label``, instead of recognising a layout.
        label: pattern of the label maps.
        participant: which files belong to one person, where only their names can tell.
        group: column of BIDS's ``participants.tsv`` by which the split is stratified.
        channel: of nnU-Net's, where there are several.
        unlabelled: of patterns and BIDS, ``error`` or ``leave_out`` for a volume without a label.
    """

    def __init__(
        self,
        image: str | None = None,
        label: str | None = None,
        participant: str | None = None,
        group: str | None = None,
        channel: int | None = None,
        unlabelled: str = "error",
    ) -> None:
        if (image is None) != (label is None):
            raise FdsegError(
                f"data.cohort.image={image}, data.cohort.label={label}: give both patterns, or "
                "neither where the folder's layout is known."
            )
        self.image, self.label, self.participant = image, label, participant
        self.group, self.channel, self.unlabelled = group, channel, unlabelled

    def __call__(self, root: Path, exclude: Collection[str] = ()) -> Cohort:
        """Find the cases of the folder ``root``, but for those to ``exclude``.

        Raises:
            FdsegError: the folder is missing or of no known layout, or as its layout's reader.
        """
        folder = Path(root).absolute()
        if not folder.is_dir():
            raise FdsegError(f"data.folder={folder}: no such folder.")
        return self._reader(folder)(folder.parent, exclude)

    def _reader(self, folder: Path) -> Callable[[Path, Collection[str]], Cohort]:
        name = folder.name
        if self.image and self.label and "{participant}" not in self.image:
            return PatternCohort(name, self.image, self.label, self.participant, self.unlabelled)
        if (folder / "participants.tsv").is_file():
            return BIDSCohort(
                name,
                self.image or "{participant}/anat/{participant}_*.nii.gz",
                self.label or "derivatives/*/{participant}/anat/{participant}_*dseg.nii.gz",
                self.group,
                self.unlabelled,
            )
        if _is_nnunet(folder, self.channel):
            return NNUNetCohort(name, self.participant, self.channel)
        if (folder / "dataset.json").is_file():
            return MSDCohort(name, self.participant)
        inside = ", ".join([path.name for path in matches(folder, "*")][:8]) or "nothing"
        raise FdsegError(
            f"data.folder={folder}: no known layout. It has neither dataset.json (MSD, nnU-Net) "
            f"nor participants.tsv (BIDS), but {inside}. Say where its files are, for example "
            "'data.cohort.image=\"scans/{case}.nii.gz\"' and "
            "'data.cohort.label=\"labels/{case}.nii.gz\"'."
        )


def task_name(folder: Path) -> str:
    """A name for the task of a folder, fit for files."""
    return re.sub(r"[^\w.-]+", "_", folder.name) or "own"


def structures_of(folder: Path) -> dict[str, int]:
    """The structures that ``dataset.json`` names, as the MSD or nnU-Net write it.

    Raises:
        FdsegError: there is none, or it does not give each structure one value.
    """
    listing = folder / "dataset.json"
    give = "Give them with 'data.structures={name: value, …}'."
    try:
        labels = json.loads(listing.read_text(encoding="utf-8-sig"))["labels"]
        structures = dict(_structure(key, value) for key, value in labels.items())
    except OSError:
        raise FdsegError(f"data.structures: not given, and {listing} is missing. {give}") from None
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise FdsegError(
            f"data.structures: not given, and {listing} does not have one value for each "
            f"({type(error).__name__}: {error}). {give}"
        ) from None
    # What nnU-Net ignores is no structure; where files have such a value, data.ignore is asked for.
    return {name: value for name, value in structures.items() if value and name != "ignore"}


def suggest_size(cases: Sequence[Case]) -> list[int]:
    """A grid for volumes like these: their median shape, smaller if that is large, in eighths."""
    shapes = np.array([_canonical_shape(open_volume(case.image)) for case in cases])
    median = np.median(shapes, axis=0)
    smaller = min(1.0, (_VOXELS / math.prod(median)) ** (1 / 3))
    return [max(8, 8 * round(n * smaller / 8)) for n in median]


def _is_nnunet(folder: Path, channel: int | None) -> bool:
    """Return whether the names of a folder's images end in the number of a channel.

    Names of the MSD may end so, too: then its labels have the images' full names, or its listing
    names the very files. A ``channel`` that was asked for goes before the listing.
    """
    images, labels = ({volume_name(p) for p in volumes(folder / d)} for d in _FOLDERS)
    if not any(name.endswith("_0000") for name in images) or (labels and labels <= images):
        return False
    return channel is not None or not _names_images(folder / "dataset.json")


def _names_images(listing: Path) -> bool:
    try:
        entries = json.loads(listing.read_text(encoding="utf-8-sig"))["training"]
        return any((listing.parent / entry["image"]).is_file() for entry in entries)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _structure(key: str, value: Any) -> tuple[str, int]:
    """The MSD has {"1": "name"}, nnU-Net {"name": 1}."""
    name, number = (value, int(key)) if str(key).isdigit() else (key, value)
    if not isinstance(name, str) or not isinstance(number, int):
        raise TypeError(f"{key}: {value}")
    return re.sub(r"\s+", "_", name.strip()), number


def _canonical_shape(head: Head) -> list[int]:
    axes = np.argsort(nib.io_orientation(head.affine)[:, 0])
    return [head.shape[axis] for axis in axes]
