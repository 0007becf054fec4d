"""The table of all scores: a report made of it again says the same."""

import pytest
from synthetic import FAMILY, Grid

from fdseg.errors import FdsegError
from fdseg.report import figures
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.comparisons import comparisons, other_trainings
from fdseg.report.contrasts import Rules
from fdseg.report.findings import findings
from fdseg.report.results import arms, results
from fdseg.report.scores import read_scores, write_scores

AUGMENTED, BY_FILE = "augmentation=standard", "data.split.by=file"


@pytest.fixture
def grid(tmp_path):
    """Three fusions at two sizes, controls, and arms with baselines of their own or with none."""
    grid = Grid(tmp_path / "runs")
    for fusion in ("none", "early", "late"):
        grid.cell(fusion, 4, 3)
        grid.cell(fusion, 17, 2)
    for split in ("double", "swap", "as_released"):
        grid.cell("early", 4, 2, f"split={split}")
    for fusion in ("none", "late"):
        grid.cell(fusion, 4, 2, AUGMENTED, dice=0.7)
    grid.cell("early", 4, 2, BY_FILE)
    missed = grid.add("late", 4, 7) / "cases.csv"
    missed.write_text(missed.read_text().replace("False", "True", 3))
    return grid


def written(grid, path):
    found = studies(collect(grid.root).runs)
    write_scores(path, found)
    return found


@pytest.mark.parametrize("unit", ["case", "participant"])
def test_tables_and_figures_made_of_it_are_those_of_the_runs(grid, tmp_path, unit):
    rules = Rules(FAMILY, unit=unit)
    (ours,) = findings(written(grid, tmp_path / "scores.csv"), rules)
    (again,) = findings(read_scores(tmp_path / "scores.csv"), rules)
    for make in (results, comparisons, other_trainings, arms):
        assert make(again).rows == make(ours).rows
        assert make(again).columns == make(ours).columns
    assert len(comparisons(again).rows) == 2 * (2 + 2 + 3 + 1 + 1)
    for draw in (figures.scores, figures.differences, figures.controls):
        assert draw(again).alt == draw(ours).alt


def test_phantom_and_real_scores_stay_apart(tmp_path):
    for phantom in (True, False):
        Grid(tmp_path / "runs", "heart", phantom=phantom).cell("none", 4, 2)
    written(Grid(tmp_path / "runs"), tmp_path / "scores.csv")
    found = read_scores(tmp_path / "scores.csv")
    assert [study.name for study in found] == ["heart", "heart-phantom"]


HEAD = "task,phantom,arm,against,n,seed,case,participant,dice,hd95_mm,missed\n"
ROW = "heart,False,none,,4,0,la_003,la_003,0.5,3.0,0\n"


def test_an_infinite_distance_is_kept(tmp_path):
    path, again = tmp_path / "scores.csv", tmp_path / "again.csv"
    path.write_text(HEAD + ROW + ROW.replace("la_003", "la_004").replace("3.0", "inf"))
    write_scores(again, read_scores(path))
    assert again.read_text() == path.read_text()
    ((arm,),) = (study.arms for study in read_scores(again))
    assert arm.scores(4, "hd95_mm") is None
    assert len(arm.scores(4, "dice").subjects) == 2


class TestBadInput:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEAD.replace("against", "other") + ROW, "KeyError: 'against'"),
            (HEAD + ROW.replace("False", "perhaps"), "KeyError: 'perhaps'"),
            (HEAD + ROW.replace(",4,", ",four,"), "invalid literal .* 'four'"),
            (HEAD + ROW.replace("0.5", "nan"), "a score is not a number"),
            (HEAD + ROW[:-4] + "\n", "TypeError"),
            (HEAD, "holds no scores"),
            (HEAD + ROW + ROW.replace("0.5", "0.6"), "la_003 stands twice for one run"),
            (HEAD + ROW + HEAD + ROW, "tables of two reports do not go into one file"),
        ],
    )
    def test_what_is_no_table_of_scores_is_refused(self, tmp_path, text, message):
        path = tmp_path / "scores.csv"
        path.write_text(HEAD + ROW)
        assert len(read_scores(path)) == 1
        path.write_text(text)
        with pytest.raises(FdsegError, match=f"scores.csv: .*{message}"):
            read_scores(path)

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FdsegError, match=r"scores.csv: cannot be read \(No such file"):
            read_scores(tmp_path / "scores.csv")
