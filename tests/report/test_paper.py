"""The paper's numbers in the package, against what its text says of them."""

import pytest

from fdseg.report.paper import PAPER, Measured


def test_it_has_the_51_rows_of_tables_2_and_3():
    assert len(PAPER) == 51
    sizes = {}
    for task, n, fusion in PAPER:
        sizes.setdefault(task, {}).setdefault(n, []).append(fusion)
    assert {task: list(ns) for task, ns in sizes.items()} == {
        "red_nucleus": [4, 8, 16, 51],
        "dentate_nucleus": [4, 7, 13, 42],
        "spleen": [4, 8, 25],
        "heart": [4, 12],
        "hippocampus": [4, 17, 83, 166],
    }
    assert all(f == ["none", "early", "late"] for ns in sizes.values() for f in ns.values())


def test_single_cells_are_as_printed():
    assert PAPER["red_nucleus", 4, "none"].dice == Measured(60.17, 2.34, bold=False)
    assert PAPER["spleen", 4, "none"].hd95 == Measured(205.48, 32.65, bold=False)
    assert PAPER["dentate_nucleus", 13, "late"].hd95 == Measured(1.44, 0.24, bold=True)
    assert PAPER["hippocampus", 166, "late"].dice == Measured(85.11, 0.46, bold=False)
    assert PAPER["hippocampus", 4, "none"].percent == 2.5


def gains(task):
    """Points of Dice that the better of early and late gains, by n."""
    return [
        max(PAPER[task, n, f].dice.mean for f in ("early", "late")) - cell.dice.mean
        for (t, n, fusion), cell in PAPER.items()
        if t == task and fusion == "none"
    ]


def test_the_gains_are_those_that_the_text_names():
    assert max(gains("red_nucleus")) == pytest.approx(16.6, abs=0.05)  # "16 points with four"
    assert [round(gain) for gain in gains("heart")] == [5, 8]  # "between 5 and 8 points"
    assert max(gains("hippocampus")) < 0.5  # "no improvement"


def test_the_best_fused_cell_is_the_bold_one_and_only_where_the_text_says_significant():
    for (task, n, fusion), cell in PAPER.items():
        best = max(("early", "late"), key=lambda f: PAPER[task, n, f].dice.mean)
        significant = task in ("red_nucleus", "dentate_nucleus", "heart")
        assert cell.dice.bold == (fusion == best and significant), (task, n, fusion)


@pytest.mark.parametrize(
    ("mean", "sem", "allowed"),
    # The paper's 80 ± 3 and ours ± 4: 1.96 √(3² + 4²) = 9.8.
    [(80, 4, True), (89.7, 4, True), (89.9, 4, False), (70.3, 4, True), (70.1, 4, False)],
)
def test_two_sems_allow_the_normal_interval_of_the_difference(mean, sem, allowed):
    assert Measured(80, 3, bold=False).allows(mean, sem) is allowed
