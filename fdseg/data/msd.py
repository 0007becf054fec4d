"""Cohorts in the layout of the Medical Segmentation Decathlon."""

import json
import re
from pathlib import Path

from fdseg.data.cases import Case, Cohort, raise_all, require_folder, require_unique
from fdseg.errors import FdsegError


class MSDCohort:
    """A folder with ``dataset.json``, ``imagesTr`` and ``labelsTr`` (Antonelli et al. 2022).

    Args:
        folder: name of the cohort's folder below ``data.root``, such as ``Task04_Hippocampus``.
        participant: which files belong to one person: ``null``, each file is one; ``pairs``, the
            files numbered 2k−1 and 2k are (the two hippocampi); anything else, a regular
            expression whose first group is the person.
    """

    def __init__(self, folder: str, participant: str | None = None) -> None:
        self.folder = folder
        self.participant = participant

    def __call__(self, root: Path) -> Cohort:
        """Find the labelled cases below ``root``.

        Raises:
            FdsegError: ``dataset.json`` is missing or malformed, a subject stands in it twice, or
                a file that it lists is missing.
        """
        folder = require_folder(root, self.folder)
        listing = folder / "dataset.json"
        try:
            entries = json.loads(listing.read_text())["training"]
            paths = [(_inside(folder, e["image"]), _inside(folder, e["label"])) for e in entries]
        except FileNotFoundError:
            raise FdsegError(
                f"{listing}: missing. The MSD layout needs it beside imagesTr and labelsTr; unpack "
                "the archive again."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise FdsegError(
                f"{listing}: not a listing of the MSD ({type(error).__name__}: {error}). Its "
                '"training" is a list of {"image": …, "label": …}.'
            ) from None
        cases = [self._case(image, label) for image, label in paths]
        require_unique((case.name for case in cases), listing)
        missing = [
            f"{case.name}: missing {kind} ({path.relative_to(folder)}). Restore the file or leave "
            f"the subject out with data.exclude=[{case.name}]."
            for case in cases
            for kind, path in (("image", case.image), ("label", case.label))
            if not path.is_file()
        ]
        raise_all(missing, f"{folder}: {len(missing)} files are missing")
        return Cohort(folder, tuple(cases))

    def _case(self, image: Path, label: Path) -> Case:
        name = re.sub(r"\.nii(\.gz)?$", "", image.name)
        return Case(name, image, label, self._participant(name))

    def _participant(self, name: str) -> str:
        if self.participant is None:
            return name
        if self.participant == "pairs":
            number = re.search(r"(\d+)$", name)
            if number:
                return f"pair{(int(number[1]) + 1) // 2}"
        else:
            match = re.search(self.participant, name)
            if match and match.groups():
                return match[1]
        raise FdsegError(
            f"{name}: data.cohort.participant={self.participant} finds no participant in this "
            "name. Use null where each file is a person, pairs for numbered pairs, or a regular "
            "expression with one group."
        )


def _inside(folder: Path, entry: str) -> Path:
    path = folder / entry
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FdsegError(f"{folder}/dataset.json: the entry {entry} leaves the folder. Remove it.")
    return path
