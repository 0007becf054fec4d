"""Cohorts in any layout, found by a pattern of the volumes and one of the labels."""

import glob
import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from fdseg.data.cases import Case, Cohort, matches, require_folder
from fdseg.data.participants import ParticipantRule
from fdseg.data.problems import raise_all, unless_one
from fdseg.errors import FdsegError
from fdseg.values import require_value

_FIELD = "{case}"


class PatternCohort:
    """Volumes whose names tell which label is theirs.

    Args:
        folder: name of the cohort's folder below ``data.root``.
        image: pattern of the volumes below the folder; ``{case}`` stands for the name of the case,
            ``*`` for anything in the name of a file or folder.
        label: pattern of the label maps, likewise.
        participant: which cases belong to one person, as :class:`ParticipantRule` has it.
        unlabelled: ``error``, a volume without a label file is an error; ``leave_out``, it is left
            out and listed.
    """

    def __init__(
        self,
        folder: str,
        image: str,
        label: str,
        participant: str | None = None,
        unlabelled: str = "error",
    ) -> None:
        require_value("data.cohort.unlabelled", unlabelled)
        for kind, pattern in (("image", image), ("label", label)):
            path = PurePosixPath(pattern)
            fields = set(re.findall(r"{.*?}", pattern))
            if fields != {_FIELD} or "**" in pattern or path.is_absolute() or ".." in path.parts:
                raise FdsegError(
                    f"data.cohort.{kind}={pattern}: expected a path below the folder in which "
                    "{case} stands for the name of the case, and * for anything."
                )
        self.folder, self.image, self.label = folder, image, label
        self.participant, self.unlabelled = ParticipantRule(participant), unlabelled

    def __call__(self, root: Path, exclude: Collection[str] = ()) -> Cohort:
        """Find the cases below ``root``, but for those to ``exclude``.

        Raises:
            FdsegError: no file fits the pattern of the volumes, or not exactly one volume and one
                label belong to a case.
        """
        folder = require_folder(root, self.folder)
        images: dict[str, list[Path]] = {}
        for path in _matches(folder, self.image, "*"):
            if match := re.fullmatch(_expression(self.image), path.relative_to(folder).as_posix()):
                images.setdefault(match["case"], []).append(path)
        if not images:
            raise FdsegError(
                f"{folder}: no file fits data.cohort.image={self.image}. It is a path below this "
                "folder in which {case} stands for the name of the case; names that begin with a "
                "dot do not count."
            )
        labels = {name: _matches(folder, self.label, glob.escape(name)) for name in images}
        # A label beside its volume may fit the pattern of the volumes too, as that of another case.
        case_of = {path: name for name, found in labels.items() for path in found}
        images = {
            name: [path for path in found if case_of.get(path, name) == name]
            for name, found in images.items()
        }
        cases, left_out, problems = [], {}, []
        for name, found in images.items():
            if not found:
                continue
            if name in exclude:
                left_out[name] = "data.exclude"
            elif not labels[name] and self.unlabelled == "leave_out":
                left_out[name] = "no label file"
            elif len(found) == len(labels[name]) == 1:
                cases.append(Case(name, found[0], labels[name][0], self.participant(name)))
            else:
                problems += unless_one(name, "image", self.image.replace(_FIELD, name), found)
                problems += unless_one(
                    name, "label", self.label.replace(_FIELD, name), labels[name]
                )
        raise_all(problems, f"{folder}: {len(problems)} files are missing or ambiguous")
        return Cohort(folder, tuple(cases), left_out)


def _matches(folder: Path, pattern: str, name: str) -> list[Path]:
    """The files that a pattern fits; only its ``*`` is special, not brackets in names."""
    literal = "*".join(map(glob.escape, pattern.split("*")))
    return matches(folder, re.sub(r"\*+", "*", literal.replace(_FIELD, name)))


def _expression(pattern: str) -> str:
    """A regular expression with the group ``case``, of the same paths as a pattern."""
    first, *rest = ("[^/]*".join(map(re.escape, part.split("*"))) for part in pattern.split(_FIELD))
    return first + "(?P<case>[^/]+?)" + "(?P=case)".join(rest)
