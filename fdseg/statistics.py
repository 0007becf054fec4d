"""Statistics of paired experiments, in which the unit is the test subject.

A network that was trained with ten seeds and tested on 52 subjects gives 520 numbers, but only 52
of them are independent: a subject that is hard for one seed is hard for all. So every number here
starts from a table of subjects × seeds, and where subjects are tested, the seeds are averaged
within each (Fu et al. 2024, section 3.2). There is no function that takes loose values.

    rows (subject, seed, value) ─ SubjectScores ─┬─ mean, sem, variance
                    two SubjectScores ─ compare ─┴─ Comparison: t-test, Wilcoxon, interval, d_z
                      p-values of several tests ─── Family: Bonferroni, Holm

A test over subjects, the paper's, says whether *these trainings* differ on other subjects. Whether
other trainings would, with other draws of training subjects and another start, is a question to the
seeds; :meth:`Comparison.joint_test` asks both at once.

What cannot be computed (the SEM of one subject, a t-test of differences that do not vary) is NaN.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fdseg.errors import FdsegError

Floats = NDArray[np.float64]
Pairs = tuple[tuple[str, int], ...]

#: Differences that vary less than this, relative to the largest, are equal but for rounding.
_ROUNDING = 1e-12
#: No experiment has more subjects or seeds; an effect that needs them is none.
_MOST = 1_000_000


@dataclass(frozen=True, eq=False)
class SubjectScores:
    """One score of one arm: a value per test subject and seed.

    Attributes:
        subjects: names of the test subjects, sorted.
        seeds: of the training runs, sorted.
        table: values ``[subjects, seeds]``, NaN where a subject was not scored with a seed.
    """

    subjects: tuple[str, ...]
    seeds: tuple[int, ...]
    table: Floats

    def __post_init__(self) -> None:
        table = np.array(self.table, np.float64)  # a copy, which nobody else can write to
        for names, axis in ((self.subjects, "subject"), (self.seeds, "seed")):
            twice = sorted({str(name) for name in names if names.count(name) > 1})
            if twice:
                raise FdsegError(f"{axis} {', '.join(twice)} stands twice in a table of scores.")
        if table.shape != (len(self.subjects), len(self.seeds)) or not table.size:
            raise FdsegError(
                f"A table of scores has shape {table.shape}, expected subjects × seeds: "
                f"({len(self.subjects)}, {len(self.seeds)}), at least one of each."
            )
        if np.isinf(table).any() or np.isnan(table).all(axis=1).any():
            raise FdsegError(
                "A table of scores has infinite values, or a subject without any. Leave out the "
                "subject; for HD95, test with scores.empty=diagonal."
            )
        table.flags.writeable = False
        object.__setattr__(self, "table", table)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, int, float]]) -> "SubjectScores":
        """From rows of subject, seed and value, in any order.

        Raises:
            FdsegError: there is no row, a pair stands twice, or a value is not finite.
        """
        values: dict[tuple[str, int], float] = {}
        for subject, seed, value in rows:
            if (subject, seed) in values:
                raise FdsegError(
                    f"{subject} has two values for seed {seed}: rows of two runs, or of several "
                    "structures, are mixed. Average the structures; keep one run per seed."
                )
            if not math.isfinite(value):
                raise FdsegError(f"{subject}, seed {seed}: the value is {value}, not a number.")
            values[subject, seed] = value
        if not values:
            raise FdsegError("There are no scores: give at least one row of subject, seed, value.")
        subjects = tuple(sorted({subject for subject, _ in values}))
        seeds = tuple(sorted({seed for _, seed in values}))
        table = [[values.get((subject, seed), np.nan) for seed in seeds] for subject in subjects]
        return cls(subjects, seeds, np.array(table))

    @cached_property
    def means(self) -> Floats:
        """The mean over its seeds of each subject, ``[subjects]``: what all statistics rest on."""
        return np.nanmean(self.table, axis=1)

    @cached_property
    def by_seed(self) -> Floats:
        """The mean over its subjects of each seed, ``[seeds]``: what a single training gave."""
        return np.nanmean(self.table, axis=0)

    @property
    def mean(self) -> float:
        """Over subjects."""
        return float(self.means.mean())

    @property
    def sem(self) -> float:
        """Standard error of the mean over subjects (ddof 1)."""
        return _sd(self.means) / math.sqrt(len(self.subjects))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval of the mean over subjects."""
        return _t_interval(self.mean, self.sem, len(self.subjects) - 1, level)

    @cached_property
    def values(self) -> dict[tuple[str, int], float]:
        """The value of every pair of subject and seed that has one."""
        return {
            (self.subjects[i], self.seeds[j]): float(self.table[i, j])
            for i, j in np.argwhere(~np.isnan(self.table))
        }

    def variance(self) -> "Variance":
        """Components of variance between subjects, between seeds, and of what is left.

        Two-way random-effects analysis of variance without replication (Shrout and Fleiss 1979),
        over the subjects that every seed has; a component estimated below zero is zero.
        """
        table = self.table[~np.isnan(self.table).any(axis=1)]
        subjects, seeds = table.shape
        if min(subjects, seeds) < 2:
            return Variance(math.nan, math.nan, math.nan)
        rows, columns = table.mean(axis=1), table.mean(axis=0)
        rest = table - rows[:, None] - columns + table.mean()
        residual = float((rest**2).sum()) / ((subjects - 1) * (seeds - 1))
        # The mean squares are seeds · var(rows) and subjects · var(columns).
        between_subjects = float(rows.var(ddof=1)) - residual / seeds
        between_seeds = float(columns.var(ddof=1)) - residual / subjects
        return Variance(max(between_subjects, 0.0), max(between_seeds, 0.0), residual)


@dataclass(frozen=True)
class Variance:
    """Components of variance, in squared units of the score.

    Attributes:
        subjects: between test subjects, of their mean over many seeds.
        seeds: between seeds, of their mean over many subjects.
        residual: of a subject with a seed, beyond both.
    """

    subjects: float
    seeds: float
    residual: float


@dataclass(frozen=True)
class Test:
    """A statistic and its two-sided p-value."""

    __test__ = False  # not one of pytest's
    statistic: float
    p: float


def compare(treatment: SubjectScores, baseline: SubjectScores) -> "Comparison":
    """Treatment minus baseline, over the pairs of subject and seed that both have.

    Raises:
        FdsegError: they have no pair in common.
    """
    ours, theirs = treatment.values, baseline.values
    common = ours.keys() & theirs.keys()
    if not common:
        raise FdsegError(
            f"Nothing to compare: subjects {_some(treatment.subjects)} with seeds "
            f"{_some(treatment.seeds)} against subjects {_some(baseline.subjects)} with seeds "
            f"{_some(baseline.seeds)} have no pair in common."
        )
    difference = SubjectScores.from_rows((*pair, ours[pair] - theirs[pair]) for pair in common)
    return Comparison(
        difference, tuple(sorted(ours.keys() - common)), tuple(sorted(theirs.keys() - common))
    )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The paired difference of two arms, over subjects, each the mean of its seeds, unless said.

    Attributes:
        difference: treatment minus baseline per subject and seed.
        only_treatment: pairs of subject and seed that the baseline lacks, not compared.
        only_baseline: pairs that the treatment lacks, not compared.
    """

    difference: SubjectScores
    only_treatment: Pairs = ()
    only_baseline: Pairs = ()

    @property
    def mean(self) -> float:
        """Mean difference over subjects."""
        return self.difference.mean

    @property
    def sem(self) -> float:
        """Standard error of the mean difference (ddof 1)."""
        return self.difference.sem

    def t_test(self) -> Test:
        """Student's paired t-test; the same difference in every subject has no t, so NaN."""
        values = self.difference.means
        if values.any() and _constant(values):
            return Test(math.nan, math.nan)
        return _test(values, lambda x: stats.ttest_1samp(x, 0.0))

    def wilcoxon(self) -> Test:
        """Wilcoxon's signed-rank test; subjects without a difference are left out of it."""
        return _test(self.difference.means, stats.wilcoxon)

    def interval(
        self, level: float = 0.95, resamples: int = 9999, seed: int = 0
    ) -> tuple[float, float]:
        """Bootstrap interval of the mean difference: bias-corrected and accelerated (Efron 1987).

        Subjects are resampled, whole; the same seed gives the same interval.
        """
        values = self.difference.means
        if len(values) < 2:
            return math.nan, math.nan
        if _constant(values):
            return self.mean, self.mean
        low, high = stats.bootstrap(
            (values,), np.mean, confidence_level=level, n_resamples=resamples, method="BCa",
            random_state=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
        return float(low), float(high)

    def seeds_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's t interval over seeds: of other trainings, tested on these subjects."""
        by_seed = self.difference.by_seed
        error = _sd(by_seed) / math.sqrt(len(by_seed))
        return _t_interval(float(by_seed.mean()), error, len(by_seed) - 1, level)

    def seeds_wilcoxon(self) -> Test:
        """Wilcoxon's test over seeds, on these subjects: no single training decides it."""
        by_seed = self.difference.by_seed
        return _test(by_seed, stats.wilcoxon) if len(by_seed) > 1 else Test(math.nan, math.nan)

    def joint_test(self) -> Test:
        """Whether other trainings, tested on other subjects, would differ: both drawn at random.

        Standard errors over subjects and over seeds are added in squares: this t squared is the
        min F′ of Clark (1973). Degrees of freedom are those of the fewer, seeds or subjects.
        (With Clark's own, a test at 5 % finds what is not there in up to 13 % of experiments with
        two seeds.) NaN with one of either, or no variance.
        """
        error, freedom = self._joint_error()
        if not error > 0:
            return Test(0.0, 1.0) if error == 0 == self.mean else Test(math.nan, math.nan)
        t = self.mean / error
        return Test(t, float(2 * stats.t.sf(abs(t), freedom)))

    def joint_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Of the mean difference, by the reckoning of :meth:`joint_test`."""
        return _t_interval(self.mean, *self._joint_error(), level)

    def _joint_error(self) -> tuple[float, int]:
        """Standard error of the mean difference over subjects and seeds, degrees of freedom."""
        axes = (self.difference.means, self.difference.by_seed)
        squares = [0.0 if _constant(values) else _sd(values) ** 2 / len(values) for values in axes]
        freedom = min(map(len, axes)) - 1
        return (math.sqrt(sum(squares)) if freedom else math.nan), freedom

    @property
    def effect_size(self) -> float:
        """Cohen's d_z: mean difference over the standard deviation of the differences."""
        values = self.difference.means
        if not values.any():
            return 0.0
        return math.nan if _constant(values) else self.mean / _sd(values)

    def subjects_needed(self, power: float = 0.8, alpha: float = 0.05) -> int | None:
        """The least number of test subjects with which :meth:`t_test` would find such an effect.

        With a chance of ``power``, two-sided at ``alpha``; ``None`` where there is no effect to
        find, or a million could not.
        """
        if not (effect := abs(self.effect_size)) > 0:
            return None
        return _least(lambda n: _power(effect * math.sqrt(n), n - 1, alpha) >= power)

    def seeds_needed(self, power: float = 0.8, alpha: float = 0.05) -> int | None:
        """The least number of seeds with which :meth:`joint_test` would find such an effect.

        On as many subjects as here, with the components of variance that the difference has.
        ``None`` with no effect, with one seed, and with too few subjects for any number of seeds.
        """
        variance, subjects = self.difference.variance(), len(self.difference.subjects)
        total = variance.subjects + variance.seeds + variance.residual
        if not self.mean or not total > (_ROUNDING * self.mean) ** 2:  # or NaN
            return None

        def found(seeds: int) -> bool:
            by_seed = variance.seeds + 2 * variance.residual / subjects
            error = math.sqrt(variance.subjects / subjects + by_seed / seeds)
            return _power(abs(self.mean) / error, min(subjects, seeds) - 1, alpha) >= power

        return _least(found)


@dataclass(frozen=True)
class Family:
    """The tests that were declared to belong together, before looking at any of them.

    A declared test counts also where it was not done: a grid half finished corrects as the whole.
    """

    members: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.members or len(set(self.members)) < len(self.members):
            raise FdsegError(
                f"family={list(self.members)}: expected one or more tests, each named once."
            )

    def bonferroni(self, p: Mapping[str, float]) -> dict[str, float]:
        """Each p-value times the number of declared tests, at most 1."""
        self._check(p)
        return {name: min(value * len(self.members), 1.0) for name, value in p.items()}

    def holm(self, p: Mapping[str, float]) -> dict[str, float]:
        """Holm's step-down p-values (1979); a declared test without one counts as p = 1."""
        self._check(p)
        adjusted, largest = {}, 0.0
        known = sorted((value, name) for name, value in p.items() if not math.isnan(value))
        for rank, (value, name) in enumerate(known):
            largest = max(largest, min(value * (len(self.members) - rank), 1.0))
            adjusted[name] = largest
        return {name: adjusted.get(name, math.nan) for name in p}

    def _check(self, p: Mapping[str, float]) -> None:
        undeclared = [name for name in p if name not in self.members]
        if undeclared:
            raise FdsegError(
                f"{', '.join(undeclared)}: not in the declared family {', '.join(self.members)}. "
                "Declare all tests that are corrected together."
            )


def _test(values: Floats, test: Callable[[Floats], Any]) -> Test:
    """By one of SciPy's tests; no difference at all is p = 1."""
    if not values.any():
        return Test(0.0, 1.0)
    found = test(values)
    return Test(float(found.statistic), float(found.pvalue))


def _least(suffices: Callable[[int], bool]) -> int | None:
    """The least number from two on that does; ``None`` if not even the most does."""
    low, high = 1, 2
    while not suffices(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _power(shift: float, freedom: int, alpha: float) -> float:
    """Of a two-sided t-test: of t², so of the noncentral F distribution, both sides at once."""
    limit = stats.t.isf(alpha / 2, freedom)
    return float(stats.ncf.sf(limit**2, 1, freedom, shift**2))


def _t_interval(mean: float, error: float, freedom: int, level: float) -> tuple[float, float]:
    """Student's; NaN without a degree of freedom."""
    half = error * float(stats.t.ppf((1 + level) / 2, freedom)) if freedom > 0 else math.nan
    return mean - half, mean + half


def _sd(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max())


def _some(names: tuple[object, ...]) -> str:
    return ", ".join(map(str, names[:5])) + (f", … ({len(names)})" if len(names) > 5 else "")
