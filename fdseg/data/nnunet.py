"""Cohorts in the layout of nnU-Net's raw data."""

import json
import re
from collections.abc import Collection
from pathlib import Path

from fdseg.data.cases import Case, Cohort, require_folder, volume_name, volumes
from fdseg.data.participants import ParticipantRule
from fdseg.data.problems import Problem, raise_all
from fdseg.errors import FdsegError


class NNUNetCohort:
    """A folder with ``imagesTr/<case>_<channel>.nii.gz`` and ``labelsTr/<case>.nii.gz``.

    Args:
        folder: name of the cohort's folder below ``data.root``, such as ``Dataset004_Hippocampus``.
        participant: which cases belong to one person, as :class:`ParticipantRule` has it.
        channel: number of the channel to use; needed where there are several.
    """

    def __init__(
        self, folder: str, participant: str | None = None, channel: int | None = None
    ) -> None:
        self.folder, self.channel = folder, channel
        self.participant = ParticipantRule(participant)

    def __call__(self, root: Path, exclude: Collection[str] = ()) -> Cohort:
        """Find the labelled cases below ``root``, but for those to ``exclude``.

        Raises:
            FdsegError: it is not told which of several channels to use, or a file is missing.
        """
        folder = require_folder(root, self.folder)
        images: dict[tuple[str, int], Path] = {}
        for path in volumes(folder / "imagesTr"):
            name, number = split_name(path)
            if number is not None:
                images[name, number] = path
        labels = {volume_name(path): path for path in volumes(folder / "labelsTr")}
        channel = self._channel(folder, {number for _, number in images})
        cases, left_out, problems = [], {}, []
        for name in sorted({name for name, _ in images} | labels.keys()):
            image, label = images.get((name, channel)), labels.get(name)
            if name in exclude:
                left_out[name] = "data.exclude"
            elif image and label:
                cases.append(Case(name, image, label, self.participant(name)))
            else:
                what = "label" if image else "image"
                file = f"labelsTr/{name}" if image else f"imagesTr/{name}_{channel:04}"
                problems.append(
                    Problem(
                        name,
                        f"missing {what} ({file}.nii.gz).",
                        f"Restore the file or leave the subject out with data.exclude=[{name}].",
                    )
                )
        raise_all(problems, f"{folder}: {len(problems)} files are missing")
        return Cohort(folder, tuple(cases), left_out, channel)

    def _channel(self, folder: Path, there: set[int]) -> int:
        channel = min(there) if self.channel is None and len(there) == 1 else self.channel
        if channel in there:
            return channel
        names = _channel_names(folder / "dataset.json")
        known = ", ".join(f"{number} {names.get(str(number), '')}".strip() for number in there)
        raise FdsegError(
            f"{folder}: its channels are {known or 'none'}, and data.cohort.channel is "
            f"{self.channel}. Choose the one to segment, such as data.cohort.channel=0."
        )


def split_name(path: Path) -> tuple[str, int | None]:
    """Return the case and the channel of a file ``<case>_<channel>.nii.gz``.

    Any other volume's are its name, and no channel.
    """
    match = re.fullmatch(r"(.+)_(\d{4})", volume_name(path))
    return (match[1], int(match[2])) if match else (volume_name(path), None)


def _channel_names(listing: Path) -> dict[str, str]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8-sig"))
        return dict(content.get("channel_names") or content.get("modality") or {})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # only for a message
