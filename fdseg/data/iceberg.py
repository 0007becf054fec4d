"""Cohorts in BIDS layout with a group column, such as ICEBERG's susceptibility maps."""

import csv
import re
from collections.abc import Collection
from pathlib import Path

from fdseg.data.cases import Case, Cohort, matches, require_folder, require_unique
from fdseg.data.problems import raise_all, unless_one
from fdseg.errors import FdsegError


class BIDSCohort:
    """A BIDS tree with ``participants.tsv`` and label maps under ``derivatives``.

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
        if unlabelled not in ("error", "leave_out"):
            raise FdsegError(f"data.cohort.unlabelled={unlabelled}: expected error or leave_out.")
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
            name = row["participant_id"]
            if name in exclude:
                left_out[name] = "data.exclude"
                continue
            patterns = [p.format(participant=name) for p in (self.image, self.label)]
            images, labels = (matches(folder, pattern) for pattern in patterns)
            if len(images) == 1 and not labels and self.unlabelled == "leave_out":
                left_out[name] = "no label file"
            elif len(images) != 1 or len(labels) != 1:
                problems += unless_one(name, "image", patterns[0], images)
                problems += unless_one(name, "label", patterns[1], labels)
            else:
                group = row[self.group] if self.group else None
                cases.append(Case(name, images[0], labels[0], name, group))
        raise_all(problems, f"{folder}: {len(problems)} files are missing or ambiguous")
        return Cohort(folder, tuple(cases), left_out)

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
