"""Which cases train, validate and test: fixed per task, by participant, and kept in a file."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdseg.data.cases import Case
from fdseg.errors import FdsegError
from fdseg.terminal import counted
from fdseg.values import require_value

PARTS = ("training", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Names of the cases of each part, in the cohort's order."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        counts = Counter(name for part in PARTS for name in getattr(self, part))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise FdsegError(
                f"split: {', '.join(twice)} stands in two parts or twice in one. Each subject "
                "belongs to exactly one of training, validation and test."
            )

    def to_json(self) -> str:
        """The text of a split file."""
        return json.dumps({part: list(getattr(self, part)) for part in PARTS}, indent=1)


def read_split(path: Path, cases: Sequence[Case], by: str = "participant") -> Split:
    """Read a split file and check it against the cohort.

    The file is JSON with the lists ``training``, ``validation`` and ``test`` of case names; cases
    that it does not name take no part.

    Raises:
        FdsegError: the file is missing or malformed, names an unknown subject or one twice, leaves
            a part empty, or (unless ``by`` is ``file``) puts one person into two parts.
    """
    require_value("data.split.by", by)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        parts = {part: _names(content[part]) for part in PARTS}
    except OSError as error:
        raise FdsegError(
            f"data.split.file={path}: {error.strerror}. Give a JSON file with the lists training, "
            "validation and test, or null for the task's own split."
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FdsegError(
            f"{path}: not a split ({type(error).__name__}: {error}). It is JSON with the lists "
            "training, validation and test of subject names."
        ) from None
    participants = {case.name: case.participant for case in cases}
    unknown = sorted({name for names in parts.values() for name in names} - participants.keys())
    if unknown:
        raise FdsegError(
            f"{path}: {', '.join(unknown[:8])}{' …' if unknown[8:] else ''} not in the cohort, or "
            "left out of it. Names are those of the image files without their ending, or BIDS "
            "participants, with sessions as in sub-01_ses-01. Correct the file."
        )
    for part, names in parts.items():
        if not names:
            raise FdsegError(f"{path}: {part} is empty. Name at least one subject in each part.")
    try:
        split = Split(**parts)
    except FdsegError as error:
        raise FdsegError(f"{path}: {error}") from None
    if by == "participant":
        _refuse_shared_participants(path, split, participants)
    return split


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError("a part is not a list of names")
    return tuple(value)


def _refuse_shared_participants(path: Path, split: Split, participants: dict[str, str]) -> None:
    part_of: dict[str, str] = {}
    for part in PARTS:
        for name in getattr(split, part):
            other = part_of.setdefault(participants[name], part)
            if other != part:
                raise FdsegError(
                    f"{path}: participant {participants[name]} ({name}) is in {other} and in "
                    f"{part}. Move all files of one person to one part, or accept the leak with "
                    "data.split.by=file."
                )


def make_split(
    cases: Sequence[Case],
    *,
    training: int,
    validation: int,
    test: int,
    by: str = "participant",
    seed: int = 0,
) -> Split:
    """Split a cohort; the same cases and seed give the same split on every machine.

    People are ordered by a hash of the seed and their name, so the split does not depend on the
    order of the files, and parts are filled to the exact number of *cases* although people with
    several cases stay together. Groups are represented in proportion. A cohort of another size
    than ``training + validation + test`` is split in these proportions.

    Raises:
        FdsegError: the cohort is too small for three parts.
    """
    require_value("data.split.by", by)
    people: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        people[case.participant if by == "participant" else case.name].append(case)
    order = _shuffled(people, f"split:{seed}")
    wanted = apportion((training, validation, test), len(cases))
    taken: set[str] = set()
    parts: dict[str, set[str]] = {}
    for part, count in (("test", wanted[2]), ("validation", wanted[1])):
        left = [p for p in order if p not in taken]
        # Where everyone has more cases than wanted, one person is better than none.
        chosen = _choose(left, people, count) or set(left[: min(count, 1)])
        taken |= chosen
        parts[part] = {case.name for person in chosen for case in people[person]}
    rest = {case.name for person in order if person not in taken for case in people[person]}
    if min(len(rest), *map(len, parts.values())) == 0:
        raise FdsegError(
            f"The cohort has {counted(len(people), 'participant')} with "
            f"{counted(len(cases), 'case')}: too few for a "
            "training, a validation and a test part. At least three participants are needed."
        )

    def named(names: set[str]) -> tuple[str, ...]:
        return tuple(case.name for case in cases if case.name in names)

    return Split(named(rest), named(parts["validation"]), named(parts["test"]))


def draw(names: Sequence[str], n: int, seed: int) -> tuple[str, ...]:
    """The n training subjects of a seed; a larger n of the same seed contains a smaller one.

    Raises:
        FdsegError: n is not between 1 and the number of training subjects.
    """
    if not 1 <= n <= len(names):
        raise FdsegError(
            f"n={n}: the training set has {counted(len(names), 'subject')}. "
            f"Choose n from 1 to {len(names)}."
        )
    chosen = set(_shuffled(names, f"draw:{seed}")[:n])
    return tuple(name for name in names if name in chosen)


def apportion(weights: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to ``weights`` that add up to ``total`` (largest remainders).

    Where ``total`` allows, no positive weight is left without a share.
    """
    if total == sum(weights):
        return list(weights)
    exact = [total * weight / max(sum(weights), 1) for weight in weights]
    shares = [int(x) for x in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    for i, weight in enumerate(weights):
        if weight and not shares[i] and total >= len(weights):
            shares[shares.index(max(shares))] -= 1
            shares[i] = 1
    return shares


def _choose(order: list[str], people: dict[str, list[Case]], count: int) -> set[str]:
    """People with ``count`` cases in all, each group in proportion; exact wherever it can be."""
    groups: dict[str, list[str]] = defaultdict(list)
    for person in order:
        groups[str(people[person][0].group)].append(person)
    names = sorted(groups)
    sizes = [sum(len(people[p]) for p in groups[g]) for g in names]
    quotas = apportion(sizes, count) if sum(sizes) > count else sizes
    chosen: set[str] = set()
    for group, quota in zip(names, quotas, strict=True):
        chosen |= _fill(groups[group], people, quota)
    left = count - sum(len(people[p]) for p in chosen)
    return chosen | _fill([p for p in order if p not in chosen], people, left)


def _fill(order: Iterable[str], people: dict[str, list[Case]], count: int) -> set[str]:
    chosen: set[str] = set()
    for person in order:
        if len(people[person]) <= count:
            chosen.add(person)
            count -= len(people[person])
    return chosen


def _shuffled(names: Iterable[str], salt: str) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest())
