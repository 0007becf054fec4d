"""Comparisons, corrections and the paper's bold, on runs whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats
from synthetic import FAMILY, Grid

from fdseg.report import findings as report
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.contrasts import Rules


def findings(root, **rules):
    return report.findings(studies(collect(root).runs), Rules(**{"family": FAMILY} | rules))


def only(root, **rules):
    (found,) = findings(root, **rules)
    return found


def contrast(found, fusion, metric="dice", n=4):
    return found.gain(n, found.study.reference_arm(fusion), metric)


@pytest.fixture
def grid(tmp_path):
    return Grid(tmp_path, "hippocampus")


def test_a_contrast_is_the_paired_test_over_subject_means(grid):
    grid.cell("none", 4, 3)
    grid.cell("early", 4, 3)
    found = contrast(only(grid.root), "early")
    dice = {}
    for run in collect(grid.root).runs:
        dice.setdefault(run.fusion, []).append([case.scores["dice"] for case in run.cases])
    a, b = (np.mean(dice[fusion], axis=0) for fusion in ("early", "none"))
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.bonferroni == pytest.approx(min(4 * found.p, 1))
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)
    pairs = (a - b).reshape(26, 2).mean(axis=1)
    assert found.people == 26
    assert found.p_people == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)


@pytest.mark.parametrize(("metric", "sign", "better"), [("dice", 1, 4), ("hd95_mm", -1, 6)])
def test_seeds_that_gain_are_those_with_more_dice_or_less_hd95(grid, metric, sign, better):
    for seed in range(6):
        grid.add("none", 4, seed, dice=0.7)
        grid.add("early", 4, seed, dice=0.7 + 0.1 * (seed % 3 - 0.5))
    means = {}
    for run in collect(grid.root).runs:
        means[run.fusion, run.seed] = np.mean([case.scores[metric] for case in run.cases])
    gains = [sign * (means["early", s] - means["none", s]) for s in range(6)]
    found = contrast(only(grid.root), "early", metric)
    assert found.seeds_better == sum(gain > 0 for gain in gains) == better


def test_a_gain_that_seeds_do_not_agree_on_is_none_for_other_trainings(grid):
    for seed, gain in enumerate((0.2, -0.05, 0.15, -0.1, 0.1)):
        grid.add("none", 4, seed, dice=0.6)
        grid.add("early", 4, seed, dice=0.6 + gain)
    found = contrast(only(grid.root), "early")
    assert found.p < 0.001 < 0.3 < found.p_joint
    assert found.needed < 52
    assert found.seeds_needed > 5
    assert found.joint_interval[0] < 0 < found.joint_interval[1]
    gains = found.comparison.difference.table.mean(axis=0)
    assert found.without_one_seed == (0, pytest.approx(sum(gains[1:]) / 4))
    assert found.p_seeds == pytest.approx(stats.wilcoxon(gains).pvalue)


def test_the_seed_that_makes_most_of_a_loss_is_the_worst(grid):
    for seed, gain in enumerate((0.1, -0.3, -0.02)):
        grid.add("none", 4, seed, dice=0.6)
        grid.add("late", 4, seed, dice=0.6 + gain)
    found = contrast(only(grid.root), "late")
    gains = found.comparison.difference.table.mean(axis=0)
    assert found.without_one_seed == (1, pytest.approx((gains[0] + gains[2]) / 2))


def test_persons_can_be_the_unit(grid):
    grid.cell("none", 4, 2)
    grid.cell("early", 4, 2)
    found = contrast(only(grid.root, unit="participant"), "early")
    assert len(found.comparison.difference.subjects) == 26
    assert found.p == found.p_people


def test_only_seeds_of_both_arms_are_compared(grid):
    grid.cell("none", 4, 3)
    for seed in (1, 2, 7):
        grid.add("early", 4, seed)
    comparison = contrast(only(grid.root), "early").comparison
    assert comparison.difference.seeds == (1, 2)
    assert {seed for _, seed in comparison.only_baseline} == {0}
    assert {seed for _, seed in comparison.only_treatment} == {7}


def test_arms_without_a_common_seed_are_not_compared(grid):
    grid.add("none", 4, 0)
    grid.add("early", 4, 1)
    assert only(grid.root).contrasts == ()


def test_holm_is_over_all_contrasts_of_a_metric_phantoms_apart(tmp_path):
    Grid(tmp_path, "heart", phantom=True).cell("none", 4, 2)
    Grid(tmp_path, "heart", phantom=True).cell("early", 4, 2)
    for task in ("heart", "spleen"):
        for fusion in ("none", "early", "late"):
            Grid(tmp_path, task).cell(fusion, 4, 2)
    *real, phantom = findings(tmp_path)
    (single,) = (c for c in phantom.contrasts if c.metric == "dice")
    assert single.holm == single.p
    four = sorted((c.p, c.holm) for f in real for c in f.contrasts if c.metric == "dice")
    assert len(four) == 4
    assert four[0][1] == pytest.approx(min(4 * four[0][0], 1))


class TestBold:
    def cells(self, root, early, late, seeds=3, none=0.7, **rules):
        grid = Grid(root, "hippocampus")
        for fusion, dice in (("none", none), ("early", early), ("late", late)):
            grid.cell(fusion, 4, seeds, dice=dice)
        found = only(root, **rules)
        return {f: contrast(found, f).bold for f in ("early", "late")}

    def test_the_better_of_early_and_late_is_bold(self, tmp_path):
        assert self.cells(tmp_path, 0.80, 0.82) == {"early": False, "late": True}

    def test_the_baseline_may_not_be_better(self, tmp_path):
        assert self.cells(tmp_path, 0.60, 0.55) == {"early": False, "late": False}

    def test_an_improvement_by_chance_is_not_bold(self, tmp_path):
        assert self.cells(tmp_path, 0.7001, 0.69) == {"early": False, "late": False}

    def test_it_is_the_corrected_p_that_counts(self, tmp_path):
        self.cells(tmp_path, 0.71, 0.60)
        found = contrast(only(tmp_path), "early")
        between = found.p * 2  # between p and 4p
        assert contrast(only(tmp_path, alpha=between), "early").bold is False
        assert contrast(only(tmp_path, alpha=between, family=(("hippocampus",),)), "early").bold

    def test_of_distances_the_smaller_is_better(self, grid):
        for fusion in ("none", "early", "late"):
            grid.cell(fusion, 4, 5)  # the paper's: 4.33, 3.24 and 3.55 mm
        found = only(grid.root)
        assert contrast(found, "early", "hd95_mm").bold
        assert not contrast(found, "late", "hd95_mm").bold

    def test_other_arms_are_never_bold(self, grid):
        grid.cell("none", 4, 3, dice=0.6)
        grid.cell("early", 4, 3, dice=0.7)
        grid.cell("early", 4, 2, "theta=0.3", dice=0.9)
        bold = [c.arm.name for c in only(grid.root).contrasts if c.bold and c.metric == "dice"]
        assert bold == ["early"]


def test_a_task_outside_the_family_stands_for_itself():
    rules = Rules(family=FAMILY)
    assert rules.bonferroni("tumour", 0.03) == 0.03
    assert rules.bonferroni("dentate_nucleus", 0.01) == pytest.approx(0.04)
    assert (rules.tests("tumour"), rules.tests("heart")) == (1, 4)


def test_the_needed_subjects_are_at_the_corrected_level(grid):
    grid.cell("none", 4, 2, dice=0.70)
    grid.cell("early", 4, 2, dice=0.705)
    found = contrast(only(grid.root), "early")
    assert found.needed == found.comparison.subjects_needed(0.8, 0.05 / 4)
    assert found.needed > found.comparison.subjects_needed(0.8, 0.05)


def test_one_seed_and_few_subjects_still_give_a_report(tmp_path):
    grid = Grid(tmp_path, "heart")
    for fusion in ("none", "early"):
        grid.add(fusion, 4, 0, subjects=1)
    found = contrast(only(tmp_path), "early")
    assert math.isnan(found.p)
    assert not found.bold
    assert found.needed is None
