"""Every statistic against SciPy, statsmodels, a published example, or a case done by hand."""

import itertools
import math
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from fdseg.errors import FdsegError
from fdseg.statistics import Comparison, Family, SubjectScores, Variance, compare


def scores(table, subjects=None, seeds=None):
    """From an array [subjects, seeds]; NaN is a pair that was not run."""
    table = np.asarray(table, float)
    return SubjectScores.from_rows(
        (subjects[i] if subjects else f"s{i:02}", seeds[j] if seeds else j, table[i, j])
        for i, j in np.argwhere(~np.isnan(table))
    )


def differences(*values):
    """A comparison whose per-subject differences are these."""
    return Comparison(scores(np.array(values, float)[:, None]))


def random_arm(rng, subjects, seeds, shift=0.0):
    """Subjects that differ, seeds that differ, and noise."""
    return scores(
        0.7 + shift + rng.normal(0, 0.1, (subjects, 1)) + rng.normal(0, 0.03, (1, seeds))
        + rng.normal(0, 0.05, (subjects, seeds))
    )  # fmt: skip


# Student's own example (1908): hours of sleep gained with two drugs, ten patients.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
# Shrout and Fleiss (1979), table 2: six targets, four judges.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


class TestTheUnitIsTheSubject:
    def test_seeds_are_averaged_before_mean_and_sem(self):
        arm = scores([[0.7, 0.9], [0.4, 0.6], [0.5, 0.5]])
        # Subjects 0.8, 0.5, 0.5: mean 0.6, standard deviation √0.03, SEM √0.01.
        assert arm.means == pytest.approx([0.8, 0.5, 0.5])
        assert arm.mean == pytest.approx(0.6)
        assert arm.sem == pytest.approx(0.1)
        # t(0.975, 2 degrees of freedom) = 4.3027
        assert arm.interval() == pytest.approx((0.6 - 0.43027, 0.6 + 0.43027), abs=1e-5)

    @given(st.integers(2, 12), st.integers(1, 4), st.integers(2, 5), st.integers(0, 2**31))
    def test_repeating_every_seed_adds_no_evidence(self, subjects, seeds, times, state):
        rng = np.random.default_rng(state)
        a, b = (rng.normal(0.8, 0.1, (subjects, seeds)) for _ in range(2))
        once = compare(scores(a), scores(b))
        often = compare(scores(np.tile(a, times)), scores(np.tile(b, times)))
        assert often.sem == pytest.approx(once.sem)
        assert often.t_test().p == pytest.approx(once.t_test().p)
        assert often.wilcoxon().p == pytest.approx(once.wilcoxon().p)

    def test_a_pair_with_two_values_is_refused(self):
        with pytest.raises(FdsegError, match="a has two values for seed 3: rows of two runs"):
            SubjectScores.from_rows([("a", 3, 0.5), ("b", 3, 0.5), ("a", 3, 0.6)])

    def test_loose_values_cannot_be_tested(self):
        with pytest.raises(AttributeError):
            compare(np.ones(520), np.zeros(520))

    def test_a_table_cannot_be_written_to(self):
        table = np.ones((2, 3))
        arm = SubjectScores(("a", "b"), (0, 1, 2), table)
        table[0, 0] = 5
        assert arm.mean == 1
        with pytest.raises(ValueError, match="read-only"):
            arm.table[0, 0] = 5

    @pytest.mark.parametrize(
        ("subjects", "seeds", "table", "message"),
        [
            (("a", "a"), (0,), np.ones((2, 1)), "subject a stands twice"),
            (("a",), (1, 1), np.ones((1, 2)), "seed 1 stands twice"),
            (("a", "b"), (0, 1, 2), np.ones((3, 2)), r"shape \(3, 2\), expected subjects × seeds"),
            ((), (), np.ones((0, 0)), "at least one of each"),
            (("a", "b"), (0,), [[1], [np.inf]], "infinite values"),
            (("a", "b"), (0,), [[1], [np.nan]], "a subject without any"),
        ],
    )
    def test_a_table_that_is_none_is_refused(self, subjects, seeds, table, message):
        with pytest.raises(FdsegError, match=message):
            SubjectScores(subjects, seeds, np.array(table))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_value_that_is_no_number_is_refused(self, value):
        with pytest.raises(FdsegError, match="b, seed 1: the value is"):
            SubjectScores.from_rows([("a", 1, 0.5), ("b", 1, value)])

    def test_no_rows_are_refused(self):
        with pytest.raises(FdsegError, match="at least one row"):
            SubjectScores.from_rows([])

    def test_without_an_effect_one_test_in_twenty_finds_one(self):
        # Each arm has its own liking for each subject, as networks have; pooling the seeds finds
        # "effects" in a third of these experiments.
        rng = np.random.default_rng(0)
        found = pooled = 0
        for _ in range(400):
            liking = rng.normal(0, 0.05, (2, 12, 1))
            a, b = 0.8 + liking + rng.normal(0, 0.03, (2, 12, 10))
            found += compare(scores(a), scores(b)).t_test().p < 0.05
            pooled += stats.ttest_rel(a.ravel(), b.ravel()).pvalue < 0.05
        assert 8 <= found <= 32  # 20 ± 3 standard deviations
        assert pooled > 130


class TestIncompleteGrids:
    def test_only_pairs_of_both_arms_are_compared_and_the_others_named(self):
        nan = np.nan
        treatment = scores([[1.0, 2.0, 9.0], [3.0, nan, 9.0]], ["a", "b"], [0, 1, 2])
        baseline = scores([[0.5, 0.5], [0.5, 0.5], [7.0, 7.0]], ["a", "b", "c"], [0, 1])
        found = compare(treatment, baseline)
        assert found.difference.subjects == ("a", "b")
        assert found.difference.means == pytest.approx([1.0, 2.5])
        assert found.only_treatment == (("a", 2), ("b", 2))
        assert found.only_baseline == (("b", 1), ("c", 0), ("c", 1))

    def test_arms_without_a_common_pair_cannot_be_compared(self):
        with pytest.raises(FdsegError, match=r"seeds 0, 1 against subjects a with seeds 2"):
            compare(scores([[1.0, 2.0]], ["a"], [0, 1]), scores([[1.0]], ["a"], [2]))

    def test_a_subject_that_lacks_a_seed_is_averaged_over_the_others(self):
        arm = scores([[1.0, 3.0], [5.0, np.nan]], ["a", "b"])
        assert arm.means == pytest.approx([2, 5])


class TestComparison:
    def test_students_sleep(self):
        found = compare(*(scores(np.array(drug)[:, None]) for drug in SLEEP))
        assert found.mean == pytest.approx(-1.58)
        assert found.t_test().statistic == pytest.approx(-4.0621, abs=1e-4)
        assert found.t_test().p == pytest.approx(0.002833, abs=1e-6)
        assert found.effect_size == pytest.approx(-4.0621 / math.sqrt(10), abs=1e-4)

    @given(st.integers(3, 60), st.integers(1, 10), st.integers(0, 2**31))
    def test_it_is_scipys_paired_test_over_subject_means(self, subjects, seeds, state):
        rng = np.random.default_rng(state)
        a, b = (rng.normal(0.8, 0.1, (subjects, seeds)) for _ in range(2))
        found = compare(scores(a), scores(b))
        paired = stats.ttest_rel(a.mean(1), b.mean(1))
        assert found.t_test().statistic == pytest.approx(paired.statistic, rel=1e-6)
        assert found.t_test().p == pytest.approx(paired.pvalue, rel=1e-6)
        assert found.sem == pytest.approx(stats.sem(a.mean(1) - b.mean(1)))
        assert found.wilcoxon().p == pytest.approx(stats.wilcoxon(a.mean(1), b.mean(1)).pvalue)
        assert found.effect_size == pytest.approx(paired.statistic / math.sqrt(subjects))

    @pytest.mark.parametrize("subjects", [4, 5, 6])
    def test_wilcoxon_counts_the_signs_of_ranks_exactly(self, subjects):
        # All of k differences positive: 2 of the 2^k assignments of signs are as extreme.
        assert differences(*range(1, subjects + 1)).wilcoxon().p == pytest.approx(2 / 2**subjects)
        # One negative, of rank 1: rank sums 0 and 1, on both sides, so 4.
        values = [-1, *range(2, subjects + 1)]
        assert differences(*values).wilcoxon().p == pytest.approx(4 / 2**subjects)

    def test_swapping_the_arms_turns_the_signs(self):
        rng = np.random.default_rng(1)
        a, b = random_arm(rng, 14, 3), random_arm(rng, 14, 3, 0.05)
        one, other = compare(a, b), compare(b, a)
        assert other.mean == pytest.approx(-one.mean)
        assert other.t_test().p == pytest.approx(one.t_test().p)
        assert other.interval() == pytest.approx(tuple(-x for x in one.interval()[::-1]), rel=0.05)


class TestInterval:
    def test_it_is_the_bca_interval_of_all_resamples(self):
        values = np.array([0.1, 0.3, 0.2, 1.5, 0.4, 0.15])
        # All 6^6 resamples, and Efron's formulas.
        means = np.array([np.mean(draw) for draw in itertools.product(values, repeat=6)])
        below = (np.mean(means < values.mean()) + np.mean(means <= values.mean())) / 2
        left_out = (values.sum() - values) / 5
        u = left_out.mean() - left_out
        acceleration = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
        bias, z = stats.norm.ppf(below), stats.norm.ppf([0.025, 0.975])
        levels = stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        exact = np.quantile(means, levels)
        found = differences(*values).interval(resamples=100_000)
        assert found == pytest.approx(exact, abs=0.01)
        assert found[1] - values.mean() > 2 * (values.mean() - found[0])  # as skewed as the values

    def test_it_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        intervals = [differences(*rng.normal(1, 1, 20)).interval(resamples=999) for _ in range(300)]
        assert 0.90 <= np.mean([low < 1 < high for low, high in intervals]) <= 0.98

    def test_it_is_the_same_each_time_and_another_with_another_seed(self):
        found = differences(*np.random.default_rng(0).normal(0, 1, 9))
        assert found.interval() == found.interval()
        assert found.interval(seed=1) != found.interval()

    def test_a_higher_level_is_wider(self):
        found = differences(*np.random.default_rng(0).normal(0, 1, 9))
        assert found.interval(0.99)[0] < found.interval(0.95)[0] < found.interval(0.8)[0]


class TestOtherTrainings:
    @given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 2**32 - 1))
    def test_its_square_is_clarks_min_f_with_the_degrees_of_the_fewer(self, subjects, seeds, state):
        rng = np.random.default_rng(state)
        table = rng.normal(rng.normal(), 1, (subjects, seeds)) + rng.normal(0, 1, (1, seeds))
        f1, f2 = (stats.ttest_1samp(table.mean(axis=a), 0).statistic ** 2 for a in (1, 0))
        f, freedom = f1 * f2 / (f1 + f2), min(subjects, seeds) - 1
        found = Comparison(scores(table))
        assert found.joint_test().statistic ** 2 == pytest.approx(f)
        assert found.joint_test().p == pytest.approx(stats.f.sf(f, 1, freedom), rel=1e-6)
        half = abs(table.mean()) / f**0.5 * stats.t.ppf(0.975, freedom)
        expected = (table.mean() - half, table.mean() + half)
        assert found.joint_interval() == pytest.approx(expected, rel=1e-6, abs=1e-9)

    @given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 2**32 - 1))
    def test_it_never_says_more_than_subjects_or_seeds_alone(self, subjects, seeds, state):
        rng = np.random.default_rng(state)
        spread = rng.uniform(0, 2, 3)
        found = Comparison(
            scores(rng.normal() + rng.normal(0, spread[0], (subjects, 1))
                   + rng.normal(0, spread[1], (1, seeds)) + rng.normal(0, 1, (subjects, seeds)))
        )  # fmt: skip
        low, high = found.joint_interval()
        for a, b in (found.difference.interval(), found.seeds_interval()):
            assert low <= a
            assert high >= b
        assert found.joint_test().p >= found.t_test().p

    def test_over_seeds_it_is_students_interval_of_the_seeds(self):
        table = np.random.default_rng(0).normal(0.3, 1, (20, 5))
        found = Comparison(scores(table))
        assert found.difference.by_seed == pytest.approx(table.mean(axis=0))
        for level in (0.8, 0.95):
            expected = stats.ttest_1samp(table.mean(axis=0), 0).confidence_interval(level)
            assert found.seeds_interval(level) == pytest.approx([*expected])

    def test_by_ranks_no_single_seed_decides_how_sure_it_is(self):
        for failed in (0.6, 6.0, 600.0):  # of six seeds the one that gained most, by ever more
            table = np.tile([0.1, 0.2, 0.3, 0.4, 0.5, failed], (7, 1))
            assert Comparison(scores(table)).seeds_wilcoxon().p == pytest.approx(2 / 2**6)
        table = np.random.default_rng(1).normal(0.3, 1, (20, 8))
        expected = stats.wilcoxon(table.mean(axis=0)).pvalue
        assert Comparison(scores(table)).seeds_wilcoxon().p == pytest.approx(expected)

    @pytest.mark.parametrize("seeds", [2, 3, 5, 10])
    @pytest.mark.parametrize("between_seeds", [0.0, 0.3, 1.0, 5.0])
    def test_a_difference_of_chance_is_not_taken_for_an_effect(self, between_seeds, seeds):
        rng = np.random.default_rng(7)
        found = [
            Comparison(
                scores(rng.normal(0, between_seeds, (1, seeds)) + rng.normal(0, 2, (30, 1))
                       + rng.normal(0, 1, (30, seeds)))
            ) for _ in range(200)
        ]  # fmt: skip
        wrong = np.mean([c.joint_test().p < 0.05 for c in found])
        assert wrong <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5
        covered = [low < 0 < high for low, high in (c.joint_interval() for c in found)]
        assert np.mean(covered) == 1 - wrong
        if between_seeds == 5:  # the test over subjects does take them for one
            assert np.mean([c.t_test().p < 0.05 for c in found]) > 0.5

    def test_an_effect_in_every_training_and_subject_is_found(self):
        rng = np.random.default_rng(1)
        found = [Comparison(scores(1 + rng.normal(0, 0.5, (30, 5)))) for _ in range(50)]
        assert all(c.joint_test().p < 0.001 for c in found)

    @pytest.mark.parametrize(("seeds", "residual"), [(0.5, 0.2), (0.2, 2.0), (1.0, 0.0)])
    def test_as_many_seeds_as_needed_find_it_four_times_in_five(self, seeds, residual):
        # More often where much varies beyond both, which the test counts twice.
        rng = np.random.default_rng(5)

        def trained(count):
            return Comparison(
                scores(0.6 + rng.normal(0, 0.3, (40, 1)) + rng.normal(0, seeds, (1, count))
                       + rng.normal(0, residual, (40, count)))
            )  # fmt: skip

        class Known(SubjectScores):  # the components that the data is made with
            def variance(self):
                return Variance(0.3**2, seeds**2, residual**2)

        table = trained(4).difference.table
        table = table - table.mean() + 0.6
        some = Known(tuple(f"s{i:02}" for i in range(40)), tuple(range(4)), table)
        needed = Comparison(some).seeds_needed()
        found = [np.mean([trained(k).joint_test().p < 0.05 for _ in range(400)])
                 for k in (needed, needed // 2)]  # fmt: skip
        assert 0.74 < found[0] < 0.92
        assert found[1] < 0.5

    def test_too_few_subjects_are_not_made_up_for_by_seeds(self):
        table = np.random.default_rng(0).normal(0, 1, (4, 1)) + 0.1
        table = table + np.random.default_rng(1).normal(0, 0.1, (4, 6))
        assert Comparison(scores(table)).seeds_needed() is None
        assert differences(0.1, 0.3, 0.2).seeds_needed() is None  # one seed
        for same in (0.0, 0.1, 0.25):
            assert Comparison(scores(np.full((4, 3), same))).seeds_needed() is None

    def test_one_seed_says_nothing_of_others(self):
        found = differences(0.1, 0.3, 0.2)
        numbers = [found.joint_test().p, *found.joint_interval(), *found.seeds_interval()]
        numbers += [found.seeds_wilcoxon().p]
        assert all(math.isnan(number) for number in numbers)
        for nothing in (np.zeros((4, 1)), np.zeros((1, 3))):
            assert math.isnan(Comparison(scores(nothing)).joint_test().p)

    def test_the_same_everywhere_has_no_test_and_a_point_as_interval(self):
        found = Comparison(scores(np.full((4, 3), 0.1)))
        assert math.isnan(found.joint_test().p)
        assert found.joint_interval() == pytest.approx((0.1, 0.1), abs=1e-12)
        assert Comparison(scores(np.zeros((4, 3)))).joint_test().p == 1

    def test_a_seed_counts_with_the_subjects_that_it_has(self):
        found = Comparison(scores([[1.0, 2.0], [3.0, np.nan], [5.0, 4.0]]))
        assert found.difference.by_seed == pytest.approx([3, 3])


class TestDegenerateCases:
    def test_no_difference_at_all_is_no_evidence(self):
        found = differences(0, 0, 0, 0)
        assert (found.t_test().p, found.wilcoxon().p, found.effect_size) == (1, 1, 0)
        assert found.interval() == (0, 0)
        assert found.subjects_needed() is None

    @pytest.mark.parametrize("value", [0.1, -2.0, 1e-9])
    def test_the_same_difference_everywhere_has_no_t(self, value):
        # Rounding must not make a huge t of it: the mean of 0.1s is not exactly 0.1.
        rows = [[0.3 + value], [0.7 + value], [0.1 + value]]
        found = compare(scores(rows), scores([[0.3], [0.7], [0.1]]))
        exact = differences(value, value, value)
        for comparison in (found, exact) if abs(value) > 1e-6 else (exact,):
            assert math.isnan(comparison.t_test().p)
            assert math.isnan(comparison.effect_size)
            assert comparison.wilcoxon().p == pytest.approx(0.25)
            assert comparison.interval() == pytest.approx((value, value))
            assert comparison.subjects_needed() is None

    def test_one_subject_has_a_difference_but_no_statistics(self):
        found = compare(scores([[0.8, 0.9]]), scores([[0.6, 0.7]]))
        assert found.mean == pytest.approx(0.2)
        numbers = [found.sem, found.t_test().p, found.effect_size, *found.interval()]
        assert all(math.isnan(number) for number in numbers)
        assert math.isnan(scores([[0.8]]).interval()[0])


class TestPower:
    # Two-sided, α = 0.05, power 0.8: as G*Power gives for dependent means.
    @pytest.mark.parametrize(("effect", "subjects"), [(0.2, 199), (0.5, 34), (0.8, 15)])
    def test_it_is_what_textbooks_print(self, effect, subjects):
        assert with_effect(effect).subjects_needed() == subjects

    @pytest.mark.parametrize("alpha", [0.05, 0.0125])
    @pytest.mark.parametrize("power", [0.8, 0.95])
    @pytest.mark.parametrize("effect", [0.05, 0.17, 0.31, 0.66, 1.2, 2.5])
    def test_it_is_what_statsmodels_finds(self, effect, power, alpha):
        found = TTestPower().solve_power(effect_size=effect, power=power, alpha=alpha)
        assert with_effect(effect).subjects_needed(power, alpha) == math.ceil(found)
        assert with_effect(-effect).subjects_needed(power, alpha) == math.ceil(found)

    @pytest.mark.parametrize("alpha", [0.05, 0.0125])
    @pytest.mark.parametrize("effect", [2.59, 3.79, 4.04, 4.52, 12.0])
    def test_a_large_effect_needs_what_the_integral_says(self, effect, alpha):
        def power(n):  # of (Z + shift) / √(χ² / freedom), over χ²
            freedom, shift = n - 1, effect * n**0.5
            limit = stats.t.isf(alpha / 2, freedom)

            def beyond(v):
                z = limit * (v / freedom) ** 0.5
                found = stats.norm.sf(z - shift) + stats.norm.cdf(-z - shift)
                return found * stats.chi2.pdf(v, freedom)

            low, high = stats.chi2.ppf([1e-12, 1 - 1e-12], freedom)
            return quad(beyond, low, high, points=[freedom], limit=400)[0]

        least = next(n for n in range(2, 30) if power(n) >= 0.8)
        assert with_effect(effect).subjects_needed(0.8, alpha) == least

    def test_an_enormous_effect_needs_two_subjects(self):
        assert with_effect(1000).subjects_needed() == 2

    def test_a_hair_of_an_effect_needs_more_than_anyone_has(self):
        assert with_effect(1e-4).subjects_needed() is None


def with_effect(size):
    """Ten subjects whose differences have exactly this d_z."""
    values = stats.zscore(np.random.default_rng(0).normal(size=10), ddof=1)
    return differences(*(values + size))


class TestVariance:
    def test_shrout_and_fleiss(self):
        # Their mean squares: 11.24 between targets, 32.49 between judges, 1.02 residual.
        found = scores(JUDGES).variance()
        assert found.residual == pytest.approx(1.019, abs=5e-4)
        assert found.subjects == pytest.approx((11.242 - 1.019) / 4, abs=5e-4)
        assert found.seeds == pytest.approx((32.486 - 1.019) / 6, abs=5e-4)

    def test_mean_squares_are_those_of_nested_linear_models(self):
        table = np.random.default_rng(3).normal(0, 1, (9, 4)) + np.arange(9)[:, None] / 3
        subject, seed = np.eye(9)[1:].T.repeat(4, axis=0), np.tile(np.eye(4)[1:].T, (9, 1))

        def squares(*factors):  # of what the model leaves
            return np.linalg.lstsq(np.hstack([np.ones((36, 1)), *factors]), table.ravel())[1]

        residual = squares(subject, seed) / 24
        by_subject = (squares(seed) - squares(subject, seed)) / 8
        by_seed = (squares(subject) - squares(subject, seed)) / 3
        found = scores(table).variance()
        assert found.residual == pytest.approx(residual)
        assert found.subjects == pytest.approx((by_subject - residual) / 4)
        assert found.seeds == pytest.approx(max((by_seed - residual) / 9, 0))

    def test_it_finds_what_the_data_was_made_with(self):
        rng = np.random.default_rng(0)
        table = (
            rng.normal(0, 3, (400, 1)) + rng.normal(0, 2, (1, 400)) + rng.normal(0, 1, (400,) * 2)
        )
        found = scores(table).variance()
        assert found.subjects == pytest.approx(9, rel=0.2)
        assert found.seeds == pytest.approx(4, rel=0.2)
        assert found.residual == pytest.approx(1, rel=0.02)

    def test_seeds_that_agree_better_than_chance_have_none(self):
        assert scores([[1.0, 2.0], [2.0, 1.0]]).variance().seeds == 0

    def test_one_seed_or_one_subject_cannot_tell(self):
        for table in ([[0.1], [0.2]], [[0.1, 0.2]]):
            assert math.isnan(scores(table).variance().residual)

    def test_a_subject_that_lacks_a_seed_is_left_out(self):
        with_gap = [*JUDGES, [1.0, np.nan, 3.0, 4.0]]
        assert scores(with_gap).variance() == scores(JUDGES).variance()


class TestFamily:
    def test_four_tests_by_hand(self):
        family = Family(("a", "b", "c", "d"))
        p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
        assert family.bonferroni(p) == pytest.approx({"a": 0.04, "b": 0.16, "c": 0.12, "d": 0.02})
        assert family.holm(p) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})

    @settings(max_examples=25)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
    def test_they_are_statsmodels(self, values):
        p = {f"t{i}": value for i, value in enumerate(values)}
        family = Family(tuple(p))
        with mock.patch("gc.collect"):  # statsmodels collects at each call, which takes the longest
            for method, found in (("bonferroni", family.bonferroni(p)), ("holm", family.holm(p))):
                assert [*found.values()] == pytest.approx(multipletests(values, method=method)[1])

    def test_a_declared_test_counts_although_it_was_not_done(self):
        family = Family(("red", "spleen", "heart", "hippocampus"))
        assert family.bonferroni({"heart": 0.01}) == pytest.approx({"heart": 0.04})
        assert family.holm({"heart": 0.01, "red": 0.02}) == pytest.approx(
            {"heart": 0.04, "red": 0.06}
        )
        undefined = family.holm({"heart": 0.01, "red": math.nan})
        assert undefined["heart"] == pytest.approx(0.04)
        assert math.isnan(undefined["red"])

    def test_a_test_that_was_not_declared_is_refused(self):
        with pytest.raises(FdsegError, match="liver: not in the declared family heart, spleen"):
            Family(("heart", "spleen")).holm({"liver": 0.01})

    @pytest.mark.parametrize("members", [(), ("heart", "heart")])
    def test_a_family_names_each_test_once(self, members):
        with pytest.raises(FdsegError, match="each named once"):
            Family(members)


def test_importing_it_brings_no_network_and_no_configuration():
    code = "import sys, fdseg.statistics; print(*sys.modules)"
    words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "hydra", "lightning", "matplotlib", "nibabel"} & {*words.stdout.split()}
