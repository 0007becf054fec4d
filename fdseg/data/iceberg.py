"""Cohorts in BIDS layout with a group column, such as ICEBERG's susceptibility maps."""

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from fdseg.data.cases import Case, Cohort, matches, require_folder, require_unique
from fdseg.data.problems import raise_all, unless_one
from fdseg.errors import FdsegError
from fdseg.values import require_value

_ANY_SESSION = "ses-*"


class BIDSCohort:
    """A BIDS tree with ``participants.tsv`` and label maps under ``derivatives``.

    Each session of a participant is a case of its own, such as ``sub-008_ses-01``. Where a pattern
    says nothing of sessions and fits no file, it is tried with ``ses-*`` where BIDS has it.

    Args:
        folder: name of the cohort's folder below ``data.root``.
        image: pattern of the volumes below the folder; ``{participant}`` stands for the
            identifier in ``participants.tsv``, ``*`` for anything.
        label: pattern of the label maps, likewise.
        group: column of ``participants.tsv`` by which splits are stratified, or ``null``.
        unlabelled: ``error``, a participant without a label file is an error; ``leave_out``, the
            participant is left out of the task and listed.
    """

    def __init__(
        self,
        folder: str,
        image: str,
        label: str,
        group: str | None = "group",
        unlabelled: str = "error",
    ) -> None:
        require_value("data.cohort.unlabelled", unlabelled)
        for kind, pattern in (("image", image), ("label", label)):
            fields = set(re.findall(r"{(.*?)}", pattern))
            if fields != {"participant"} or Path(pattern).is_absolute():
                raise FdsegError(
                    f"data.cohort.{kind}={pattern}: expected a path below {folder} in which "
                    "{participant} stands for the identifier, and * for anything."
                )
        self.folder, self.image, self.label = folder, image, label
        self.group, self.unlabelled = group, unlabelled

    def __call__(self, root: Path, exclude: Collection[str] = ()) -> Cohort:
        """Find the participants below ``root``, but for those to ``exclude``.

        Raises:
            FdsegError: ``participants.tsv`` is missing, lacks a column or names a participant
                twice or wrongly, or a pattern fits no file or several.
        """
        folder = require_folder(root, self.folder)
        table = folder / "participants.tsv"
        rows = self._participants(table)
        require_unique((row["participant_id"] for row in rows), table)
        cases, left_out, problems = [], {}, []
        for row in rows:
            participant, group = row["participant_id"], row[self.group] if self.group else None
            if participant in exclude:
                left_out[participant] = "data.exclude"
                continue
            for name, patterns, (images, labels) in self._found(folder, participant):
                if name in exclude:
                    left_out[name] = "data.exclude"
                elif len(images) == 1 and not labels and self.unlabelled == "leave_out":
                    left_out[name] = "no label file"
                elif len(images) != 1 or len(labels) != 1:
                    problems += unless_one(name, "image", patterns[0], images)
                    problems += unless_one(name, "label", patterns[1], labels)
                else:
                    cases.append(Case(name, images[0], labels[0], participant, group))
        raise_all(problems, f"{folder}: {len(problems)} files are missing or ambiguous")
        require_unique((case.name for case in cases), folder)
        return Cohort(folder, tuple(cases), left_out)

    def _found(
        self, folder: Path, participant: str
    ) -> Iterator[tuple[str, list[str], list[list[Path]]]]:
        """Yield each case of a participant: its name, its two patterns, and the files they fit."""
        patterns = [p.format(participant=participant) for p in (self.image, self.label)]
        written = [matches(folder, pattern) for pattern in patterns]
        if all(len(files) == 1 for files in written):
            yield participant, patterns, written
            return
        inside = [_in_sessions(p).format(participant=participant) for p in (self.image, self.label)]
        found = [one or matches(folder, p) for one, p in zip(written, inside, strict=True)]
        of = {path: _session(path.relative_to(folder)) for files in found for path in files}
        sessions = sorted({*of.values()} - {""})
        if len(sessions) > 1:
            groups = {
                session: [[path for path in files if of[path] == session] for files in found]
                for session in ("", *sessions)
            }
        else:  # what names no session belongs to the only one
            groups = {sessions[0] if sessions and found != written else "": found}
        if not sessions and matches(folder, f"{participant}/{_ANY_SESSION}"):
            patterns = inside
        for session, files in groups.items():
            if session:
                shown = [pattern.replace(_ANY_SESSION, session) for pattern in inside]
                yield f"{participant}_{session}", shown, files
            elif len(groups) == 1 or any(files):
                yield participant, patterns, files

    def _participants(self, table: Path) -> list[dict[str, str]]:
        try:
            with table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, delimiter="\t")
                rows, columns = list(reader), reader.fieldnames or []
        except FileNotFoundError:
            raise FdsegError(
                f"{table}: missing. BIDS needs it: one line per participant, tab-separated."
            ) from None
        except OSError as error:
            raise FdsegError(f"{table}: cannot be read ({error.strerror}).") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise FdsegError(f"{table}: not a tab-separated UTF-8 table ({error}).") from None
        if "participant_id" not in columns:
            raise FdsegError(
                f"{table}: no column participant_id, only {', '.join(columns) or 'an empty file'}. "
                "BIDS has it first; columns are separated by tabs."
            )
        if self.group and self.group not in columns:
            raise FdsegError(
                f"{table}: no column {self.group}, only {', '.join(columns)}. Name the column of "
                "the groups in data.cohort.group, or set it to null."
            )
        for line, row in enumerate(rows, start=2):
            if not re.fullmatch(r"\w[\w.+-]*", row["participant_id"] or ""):
                raise FdsegError(
                    f"{table}: line {line} has the participant_id {row['participant_id']!r}, which "
                    "cannot be part of a file's name. Correct it."
                )
        return rows


def _in_sessions(pattern: str) -> str:
    """A pattern with the sessions where BIDS has them: below the participant, and in the name."""
    if "ses-" in pattern:
        return pattern
    *folders, file = pattern.split("/")
    field = "{participant}"
    inside = [f"{field}/{_ANY_SESSION}" if name == field else name for name in folders]
    return "/".join([*inside, file.replace(field, f"{field}_{_ANY_SESSION}")])


def _session(path: Path) -> str:
    """The session that a path names, ``ses-…``, its file before its folders; else nothing."""
    return next(iter(re.findall(r"(?:^|[/_])(ses-[^/_.]+)", path.as_posix())[::-1]), "")
