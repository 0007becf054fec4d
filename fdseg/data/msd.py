"""Cohorts in the layout of the Medical Segmentation Decathlon."""

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fdseg.data.cases import Case, Cohort, is_hidden, require_folder, require_unique, volume_name
from fdseg.data.participants import ParticipantRule
from fdseg.data.problems import Problem, raise_all
from fdseg.errors import FdsegError


class MSDCohort:
    """A folder with ``dataset.json``, ``imagesTr`` and ``labelsTr`` (Antonelli et al. 2022).

    Args:
        folder: name of the cohort's folder below ``data.root``, such as ``Task04_Hippocampus``.
        participant: which files belong to one person, as :class:`ParticipantRule` has it; the two
            hippocampi of Task04 are ``pairs``.
    """

    def __init__(self, folder: str, participant: str | None = None) -> None:
        self.folder = folder
        self.participant = ParticipantRule(participant)

    def __call__(self, root: Path, exclude: Collection[str] = ()) -> Cohort:
        """Find the labelled cases below ``root``, but for those to ``exclude``.

        Raises:
            FdsegError: ``dataset.json`` is missing or malformed, a subject stands in it twice, or
                a file that it lists is missing.
        """
        folder = require_folder(root, self.folder)
        listing = folder / "dataset.json"
        try:
            entries = json.loads(listing.read_text(encoding="utf-8-sig"))["training"]
            paths = [
                (_inside(folder, entry["image"]), _inside(folder, entry["label"]))
                for entry in entries
                if not is_hidden(PurePosixPath(entry["image"]))
            ]
        except FileNotFoundError:
            raise FdsegError(
                f"{listing}: missing. The MSD layout needs it beside imagesTr and labelsTr; unpack "
                "the archive again."
            ) from None
        except OSError as error:
            raise FdsegError(f"{listing}: cannot be read ({error.strerror}).") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FdsegError(
                f"{listing}: not a listing of the MSD ({type(error).__name__}: {error}). Its "
                '"training" is a list of {"image": …, "label": …}.'
            ) from None
        require_unique((volume_name(image) for image, _ in paths), listing)
        left_out = {volume_name(i): "data.exclude" for i, _ in paths if volume_name(i) in exclude}
        cases = [
            self._case(image, label) for image, label in paths if volume_name(image) not in left_out
        ]
        missing = [
            Problem(
                case.name,
                f"missing {kind} ({path.relative_to(folder)}).",
                f"Restore the file or leave the subject out with data.exclude=[{case.name}].",
            )
            for case in cases
            for kind, path in (("image", case.image), ("label", case.label))
            if not path.is_file()
        ]
        raise_all(missing, f"{folder}: {len(missing)} files are missing")
        return Cohort(folder, tuple(cases), left_out)

    def _case(self, image: Path, label: Path) -> Case:
        name = volume_name(image)
        return Case(name, image, label, self.participant(name))


def _inside(folder: Path, entry: str) -> Path:
    # By its words, not resolved: links to files kept elsewhere are the user's own.
    if PurePosixPath(entry).is_absolute() or ".." in PurePosixPath(entry).parts:
        raise FdsegError(f"{folder}/dataset.json: the entry {entry} leaves the folder. Remove it.")
    return folder / entry
