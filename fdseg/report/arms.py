"""Arms: runs that differ in their seed and n only, named by what sets them apart from the others.

Whatever else decides the numbers (θ, the split, augmentation, the split of the data, the data
itself) makes another arm. The arms of one task with the commonest settings, and with the paper's
split where it was run, need no further name; every other name lists how it departs from them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fdseg.report.departures import departures, own, value_at, value_text
from fdseg.report.finished import Run
from fdseg.report.paper import FUSIONS, PAPER, SETTINGS
from fdseg.runs import identity, task_folder, task_title
from fdseg.statistics import SubjectScores

Unit = Literal["case", "participant"]

#: Settings that belong to the treatment; arms that share all others share their baseline.
_TREATMENT = frozenset({"fusion", "split", "theta", "network"})


@dataclass(frozen=True)
class Arm:
    """One way to train, at every n it was run with.

    Attributes:
        fusion: of its runs.
        departures: from the reference arms' settings, as ``key=value``; none for a reference arm.
        runs: by n, in the order of their seeds.
        settings: all that its runs share.
    """

    fusion: str
    departures: tuple[str, ...]
    runs: Mapping[int, tuple[Run, ...]]
    settings: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """``early``, or ``early, theta=0.2``."""
        return ", ".join((self.fusion, *self.departures))

    def scores(self, n: int, metric: str, unit: Unit = "case") -> SubjectScores | None:
        """Of a metric, over test cases or their participants, and seeds.

        Returns:
            ``None`` where a value is infinite (HD95 of a missed structure, ``scores.empty=inf``).
        """
        rows = []
        for run in self.runs[n]:
            by_subject: dict[str, list[float]] = {}
            for case in run.cases:
                by_subject.setdefault(getattr(case, unit), []).append(case.scores[metric])
            rows += [(s, run.seed, float(np.mean(values))) for s, values in by_subject.items()]
        finite = all(np.isfinite(value) for *_, value in rows)
        return SubjectScores.from_rows(rows) if finite else None

    @property
    def has_whole_stems(self) -> bool:
        """Whether its two stems both see the whole volume: ``split=double``, no frequencies."""
        return "split=double" in self.departures

    def comparable(self, other: "Arm", metric: str) -> bool:
        """Whether they differ in the treatment only; Dice does not depend on how HD95 is taken."""
        aside = _TREATMENT | {"scores"} if metric == "dice" else _TREATMENT
        return _protocol(self.settings, aside) == _protocol(other.settings, aside)


@dataclass(frozen=True)
class Study:
    """The arms of one task, with real volumes or with the phantom's, never both.

    Attributes:
        task, phantom: whose runs they are.
        arms: the reference arms first.
        reference: ``key=value`` of the reference arms, where other arms have other values.
    """

    task: str
    phantom: bool
    arms: tuple[Arm, ...]
    reference: tuple[str, ...]

    @property
    def name(self) -> str:
        """``hippocampus`` or ``hippocampus-phantom``, as the folders are called."""
        return task_folder(self.task, self.phantom)

    @property
    def title(self) -> str:
        """For a person."""
        return task_title(self.task, self.phantom)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All n."""
        return tuple(sorted({n for arm in self.arms for n in arm.runs}))

    def reference_arm(self, fusion: str) -> Arm | None:
        """The arm of a fusion in the table's own settings."""
        return next((a for a in self.arms if a.fusion == fusion and not a.departures), None)

    def baseline(self, arm: Arm, metric: str) -> Arm | None:
        """The arm without a split that is otherwise set as this one; ``None`` for such an arm."""
        if arm.fusion == "none":
            return None
        plain = [a for a in self.arms if a.fusion == "none" and arm.comparable(a, metric)]
        return min(plain, key=lambda a: not arm.comparable(a, "all"), default=None)

    def baselines(self, arm: Arm, metric: str) -> tuple[Arm, ...]:
        """What an arm is compared with: :meth:`baseline`, and what is as it but for the split.

        The latter, for an arm with the reference arms' split, is the arm with the same fusion and
        ``split=double``: what the one gains over it, the second stem alone does not give.
        """
        none = self.baseline(arm, metric)
        if none is None:
            return ()
        if any(departure.startswith("split=") for departure in arm.departures):
            return (none,)
        whole = [
            a for a in self.arms
            if a.fusion == arm.fusion and a.has_whole_stems and self.baseline(a, metric) is none
        ]  # fmt: skip
        return (none, *sorted(whole, key=lambda a: len(a.name))[:1])


def studies(runs: Iterable[Run]) -> tuple[Study, ...]:
    """Runs as studies of one task each: the real ones first, in the paper's order."""
    tasks: dict[tuple[bool, str], list[Run]] = {}
    for run in runs:
        tasks.setdefault((run.phantom, run.task), []).append(run)
    order = list(dict.fromkeys(task for task, *_ in PAPER))

    def place(key: tuple[bool, str]) -> tuple[bool, int, str]:
        return key[0], order.index(key[1]) if key[1] in order else len(order), key[1]

    return tuple(
        _study(task, phantom, tasks[phantom, task]) for phantom, task in sorted(tasks, key=place)
    )


def _study(task: str, phantom: bool, runs: Sequence[Run]) -> Study:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.fusion, _text(run.settings)), []).append(run)
    reference = _reference(runs)
    arms = []
    for (fusion, _), members in groups.items():
        settings = members[0].settings
        ours, theirs = (
            own(s, fusion, settings.get("split") is not None) for s in (settings, reference)
        )
        names = tuple(departures(ours, theirs))
        by_n: dict[int, list[Run]] = {}
        for run in sorted(members, key=lambda run: (run.n, run.seed)):
            by_n.setdefault(run.n, []).append(run)
        sizes = {n: tuple(rs) for n, rs in by_n.items()}
        arms.append(Arm(fusion, names, sizes, settings))
    keys = {departure.partition("=")[0] for arm in arms for departure in arm.departures}
    common = tuple(
        f"{key}={value_text(value_at(reference, key), key)}"
        for key in sorted(keys)
        if not any(key.startswith(f"{above}.") for above in keys)
    )
    return Study(task, phantom, tuple(sorted(_distinct(arms), key=_place)), common)


def _reference(runs: Sequence[Run]) -> Mapping[str, Any]:
    """The commonest settings but for the treatment; of treatments the paper's, or the commonest."""
    same = _commonest(runs, lambda run: _protocol(run.settings))
    split = [run for run in same if run.fusion != "none"]
    treatment = {k: v for k, v in SETTINGS.items() if k.partition(".")[0] in _TREATMENT}
    papers = [r for r in split if all(value_at(r.settings, k) == v for k, v in treatment.items())]
    return _commonest(papers or split or same, lambda run: _text(run.settings))[0].settings


def _commonest(runs: Sequence[Run], key: Callable[[Run], str]) -> list[Run]:
    """The most runs with the same key; of equally many, those nearer to the paper's settings."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)

    def place(same: str) -> tuple[int, int, str]:
        members = groups[same]
        likeness = sum(value_at(members[0].settings, k) == v for k, v in SETTINGS.items())
        return -len(members), -likeness, same

    return groups[min(groups, key=place)]


def _distinct(arms: Sequence[Arm]) -> list[Arm]:
    """Arms whose names would be the same get a hash of their settings as well."""
    names = [arm.name for arm in arms]
    return [
        Arm(arm.fusion, (*arm.departures, f"settings {identity(arm.settings)}"), arm.runs,
            arm.settings)
        if names.count(arm.name) > 1 else arm
        for arm in arms
    ]  # fmt: skip


def _protocol(settings: Mapping[str, Any], aside: frozenset[str] = _TREATMENT) -> str:
    return _text({key: value for key, value in settings.items() if key not in aside})


def _place(arm: Arm) -> tuple[Any, ...]:
    order = FUSIONS.index(arm.fusion) if arm.fusion in FUSIONS else len(FUSIONS)
    return bool(arm.departures), order, arm.fusion, arm.departures


def _text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
