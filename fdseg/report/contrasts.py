"""One arm against its baseline at one n: the paired comparison, and what corrects its p-value."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fdseg.report.arms import Arm, Unit
from fdseg.statistics import Comparison, Family, Pairs, SubjectScores, compare


@dataclass(frozen=True)
class Shown:
    """How a metric is shown: its name, its unit, the factor to it, whether more is better."""

    name: str
    unit: str
    factor: float
    more: bool


SHOWN = {"dice": Shown("Dice", "points", 100, True), "hd95_mm": Shown("HD95", "mm", 1, False)}


@dataclass(frozen=True)
class Rules:
    """How a report tests.

    Args:
        family: the independent tasks that are corrected together; several names are one task.
        alpha: below which a corrected p-value is significant.
        unit: ``case`` or ``participant``: what counts as a test subject.
        power: with which an effect should be found.
    """

    family: tuple[tuple[str, ...], ...]
    alpha: float = 0.05
    unit: Unit = "case"
    power: float = 0.8

    def bonferroni(self, task: str, p: float) -> float:
        """Corrected over the family's tasks; a task that is not in it stands for itself."""
        names = tuple("+".join(tasks) for tasks in self.family)
        for name, tasks in zip(names, self.family, strict=True):
            if task in tasks:
                return Family(names).bonferroni({name: p})[name]
        return p

    def tests(self, task: str) -> int:
        """How many tests a test of this task is corrected for."""
        return len(self.family) if any(task in tasks for tasks in self.family) else 1


@dataclass(frozen=True)
class Cell:
    """An arm at one n.

    Attributes:
        scores: by metric, over the test subjects that the rules count; ``None`` where some are
            infinite.
        people: the same over persons.
    """

    n: int
    arm: Arm
    scores: dict[str, SubjectScores | None]
    people: dict[str, SubjectScores | None]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs."""
        return tuple(run.seed for run in self.arm.runs[self.n])

    @property
    def missed(self) -> int:
        """Structures of which its runs found nothing."""
        return sum(run.missed for run in self.arm.runs[self.n])


@dataclass(frozen=True)
class Contrast:
    """An arm against its baseline at one n, in one metric.

    Attributes:
        mean: of the arm.
        comparison: over the test subjects that the rules count.
        p: of the paired t-test.
        bonferroni: the same, over the family of tasks.
        holm: the same, over all contrasts of this metric in the report, real and phantom apart.
        wilcoxon: p-value of the signed-rank test.
        interval: of the mean difference, 95 %.
        needed: test subjects to find it, at the Bonferroni-corrected level.
        seeds_needed: seeds to find it on these subjects with the test over both, at that level.
        people: number of persons among the test subjects.
        p_people: of the paired t-test over persons, each the mean of its cases.
        p_seeds: of the signed-rank test over seeds; NaN with one seed.
        p_joint: of the test over subjects and seeds at once; NaN with one seed.
        bonferroni_joint: the same, over the family of tasks.
        joint_interval: of the mean difference for other subjects and other seeds, 95 %.
        bold: the paper's mark, see :func:`findings`.
    """

    n: int
    arm: Arm
    baseline: Arm
    metric: str
    mean: float
    comparison: Comparison
    p: float
    bonferroni: float
    wilcoxon: float
    interval: tuple[float, float]
    needed: int | None
    seeds_needed: int | None
    people: int
    p_people: float
    p_seeds: float
    p_joint: float
    bonferroni_joint: float
    joint_interval: tuple[float, float]
    holm: float = float("nan")
    bold: bool = False

    @property
    def better(self) -> bool:
        """Whether the difference is an improvement."""
        return (self.comparison.mean > 0) == SHOWN[self.metric].more and self.comparison.mean != 0

    @property
    def seeds_better(self) -> int:
        """Of how many seeds the mean difference is an improvement."""
        by_seed = self.comparison.difference.by_seed
        return int((by_seed > 0).sum() if SHOWN[self.metric].more else (by_seed < 0).sum())

    @property
    def without_one_seed(self) -> tuple[int, float]:
        """The seed that makes most of the mean difference, and what the others give without it."""
        difference = self.comparison.difference
        most = int((difference.by_seed * np.sign(difference.mean)).argmax())
        others = np.delete(difference.by_seed, most)
        return difference.seeds[most], float(others.mean()) if len(others) else math.nan

    @property
    def key(self) -> str:
        """Which of a study's contrasts it is."""
        return f"{self.arm.name} − {self.baseline.name}, n={self.n}, {self.metric}"


def contrast(task: str, rules: Rules, cell: Cell, baseline: Cell, metric: str) -> Contrast | None:
    """A cell against its baseline.

    Args:
        task: whose family corrects the p-value.
        rules: of the tests.
        cell, baseline: of the same n.
        metric: a key of ``SHOWN``.

    Returns:
        ``None`` where they have no pair of subject and seed in common, or infinite scores.
    """
    ours, theirs = cell.scores[metric], baseline.scores[metric]
    if ours is None or theirs is None or not ours.values.keys() & theirs.values.keys():
        return None
    comparison = compare(ours, theirs)
    people = [c.people[metric] for c in (cell, baseline)]
    by_person = compare(*(scores for scores in people if scores is not None))
    p, p_joint = comparison.t_test().p, comparison.joint_test().p
    alpha = rules.alpha / rules.tests(task)
    return Contrast(
        n=cell.n,
        arm=cell.arm,
        baseline=baseline.arm,
        metric=metric,
        mean=ours.mean,
        comparison=comparison,
        p=p,
        bonferroni=rules.bonferroni(task, p),
        wilcoxon=comparison.wilcoxon().p,
        interval=comparison.interval(),
        needed=comparison.subjects_needed(rules.power, alpha),
        seeds_needed=comparison.seeds_needed(rules.power, alpha),
        people=len(by_person.difference.subjects),
        p_people=by_person.t_test().p,
        p_seeds=comparison.seeds_wilcoxon().p,
        p_joint=p_joint,
        bonferroni_joint=rules.bonferroni(task, p_joint),
        joint_interval=comparison.joint_interval(),
    )


def missing(contrasts: Iterable[Contrast]) -> list[str]:
    """What could not be compared, a sentence for each arm that lacks pairs of another."""
    sentences: dict[str, None] = {}  # Dice and HD95 lack the same
    for c in contrasts:
        for lacking, pairs in (
            (c.baseline, c.comparison.only_treatment),
            (c.arm, c.comparison.only_baseline),
        ):
            if pairs:
                against = f"n = {c.n}, {c.arm.name} against {c.baseline.name}"
                sentences[f"{against}: {lacking.name} lacks {_words(pairs)}."] = None
    return list(sentences)


def _words(pairs: Pairs) -> str:
    """Seeds that lack the same subjects are named together."""
    lacking: dict[int, list[str]] = {}
    for subject, seed in pairs:
        lacking.setdefault(seed, []).append(subject)
    alike: dict[tuple[str, ...], list[int]] = {}
    for seed, subjects in lacking.items():
        alike.setdefault(tuple(subjects), []).append(seed)
    return "; ".join(
        f"seed {', '.join(map(str, sorted(seeds)))} of "
        + (subjects[0] if len(subjects) == 1 else f"{len(subjects)} subjects")
        for subjects, seeds in alike.items()
    )
