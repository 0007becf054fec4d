"""What is wrong with the cases of a cohort: collected, and raised all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fdseg.errors import FdsegError

LISTED = 12  # problems listed one by one; the rest is counted


@dataclass(frozen=True)
class Problem:
    """What is wrong with the files of a subject, and what to do about it.

    Attributes:
        subject: name of the case.
        what: one sentence that names the file.
        remedy: one sentence that names the key.
    """

    subject: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} {self.remedy}"


class UnusableCases(FdsegError):
    """Problems of some cases; the message lists the first of them, ``problems`` has all."""

    def __init__(self, heading: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in problems[:LISTED]]
        if len(problems) > LISTED:
            lines.append(f"… and {len(problems) - LISTED} more")
        super().__init__("\n  ".join([heading, *lines]) if len(problems) > 1 else lines[0])


def raise_all(problems: Sequence[Problem], heading: str) -> None:
    """Raise one error that has all problems; nothing where there is none."""
    if problems:
        raise UnusableCases(heading, problems)


def unless_one(name: str, kind: str, pattern: str, paths: Sequence[Path]) -> list[Problem]:
    """The problem of a case whose pattern fits no file or several; none where it fits one.

    Args:
        name: of the case.
        kind: image or label.
        pattern: as it stands for this case.
        paths: the files that it fits.
    """
    if len(paths) == 1:
        return []
    what = f"missing {kind}" if not paths else f"{len(paths)} files fit as {kind}"
    remedy = f"Correct data.cohort.{kind} or leave the subject out with data.exclude=[{name}]."
    return [Problem(name, f"{what} ({pattern}).", remedy)]


def listed(names: Sequence[str]) -> str:
    """Names for a person: the first of them, and how many more there are."""
    more = f" … and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
