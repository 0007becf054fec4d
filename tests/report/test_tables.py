"""Tables: what stands in them, and that each format says the same."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from synthetic import FAMILY, Grid

from fdseg.report import findings as report
from fdseg.report import results
from fdseg.report.arms import studies
from fdseg.report.collect import LeftOut, collect
from fdseg.report.comparisons import comparisons, other_trainings
from fdseg.report.contrasts import Rules
from fdseg.report.tables import Column, Entry, Table, latex, markdown, number, probability


def tables(root, make):
    found = report.findings(studies(collect(root).runs), Rules(FAMILY))
    return [make(f) for f in found]


def column(table, title):
    """The texts of a column."""
    index = [c.title for c in table.columns].index(title)
    return [row[index].text for row in table.rows]


def saved(table, folder):
    table.write(folder)
    with (folder / f"{table.name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def heart(tmp_path):
    grid = Grid(tmp_path / "runs", "heart")
    for fusion in ("none", "early", "late"):
        grid.cell(fusion, 4, 3)
        grid.cell(fusion, 12, 2, dice=0.5)
    return grid


class TestResults:
    def test_rows_are_n_by_fusion_as_in_the_paper(self, heart):
        (table,) = tables(heart.root, results.results)
        assert column(table, "n") == ["4 (30 %)"] * 3 + ["12 (100 %)"] * 3
        assert column(table, "fusion") == ["none", "early", "late"] * 2
        assert column(table, "seeds") == ["3"] * 3 + ["2"] * 3
        assert column(table, "subjects") == ["4"] * 6

    def test_the_papers_numbers_stand_beside(self, heart):
        (table,) = tables(heart.root, results.results)
        assert column(table, "paper")[:3] == ["78.89 ± 2.74", "84.01 ± 1.83", "83.94 ± 1.80"]

    def test_a_difference_beyond_both_sems_is_marked(self, heart):
        (table,) = tables(heart.root, results.results)
        marks = ["†" in text for text in column(table, "Δ")]
        assert marks == [False] * 3 + [True] * 3
        rows = saved(table, heart.root)
        assert [row["dice_exceeds_sems"] for row in rows] == ["False"] * 3 + ["True"] * 3
        for row in rows:
            difference = float(row["dice_mean"]) - float(row["dice_paper_mean"])
            assert float(row["dice_difference"]) == pytest.approx(difference)

    def test_a_phantom_says_so_and_has_no_paper_beside(self, tmp_path):
        Grid(tmp_path, "heart", phantom=True).cell("none", 4, 2)
        (table,) = tables(tmp_path, results.results)
        assert table.title.startswith("PHANTOM heart")
        assert "say nothing about patients" in table.notes[0]
        assert "paper" not in [c.title for c in table.columns]
        assert {row["phantom"] for row in saved(table, tmp_path)} == {"True"}

    def test_a_task_of_ones_own_has_no_paper_beside(self, tmp_path):
        Grid(tmp_path, "heart").cell("none", 5, 2)
        for path in tmp_path.rglob("*"):
            if path.suffix in (".json", ".yaml"):
                text = path.read_text().replace('"heart"', '"tumour"')
                path.write_text(text.replace("name: heart", "name: tumour"))
        (tmp_path / "heart").rename(tmp_path / "tumour")
        (table,) = tables(tmp_path, results.results)
        assert table.title.startswith("tumour")
        assert "paper" not in [c.title for c in table.columns]

    def test_cells_that_were_not_run_are_empty_and_sizes_named(self, tmp_path):
        Grid(tmp_path, "heart").cell("early", 12, 2)
        (table,) = tables(tmp_path, results.results)
        assert column(table, "Dice [points]")[0] == "–"
        assert column(table, "Dice [points]")[1] != "–"
        assert "not run here: n = 4." in " ".join(table.notes)

    def test_other_arms_are_not_in_it(self, heart):
        before = tables(heart.root, results.results)[0]
        heart.cell("early", 4, 2, "theta=0.4", dice=0.2)
        (after,) = tables(heart.root, results.results)
        assert after.rows == before.rows
        assert "theta=0.1" in after.notes[-1]


class TestComparisons:
    def test_every_number_is_in_the_csv(self, heart):
        (table,) = tables(heart.root, comparisons)
        row = saved(table, heart.root)[0]
        assert (row["n"], row["arm"], row["against"], row["metric"]) == (
            "4",
            "early",
            "none",
            "dice",
        )
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert float(row["p_bonferroni"]) == pytest.approx(min(1, 4 * float(row["p_t"])))

    def test_other_trainings_have_a_table_of_their_own(self, heart):
        (table,) = tables(heart.root, other_trainings)
        row = saved(table, heart.root)[0]
        (over_subjects, *_) = saved(tables(heart.root, comparisons)[0], heart.root)
        assert row["difference"] == over_subjects["difference"]
        assert float(row["low"]) < float(row["least"]) < float(row["difference"])
        assert float(row["high"]) > float(row["most"]) > float(row["difference"])
        assert (float(row["low"]) > 0) == (float(row["p"]) < 0.05)
        assert float(row["p_bonferroni"]) == pytest.approx(min(1, 4 * float(row["p"])))
        assert (row["seeds_better"], row["seeds"]) == ("3", "3")
        assert row["one"] in ("0", "1", "2")
        others = (3 * float(row["difference"]) - float(row["most"])) / 2
        assert float(row["without_one"]) == pytest.approx(others)
        assert row["seeds_needed"] == ""  # with four subjects, no number of seeds

    def test_one_seed_has_no_interval_for_others(self, tmp_path):
        Grid(tmp_path, "heart").cell("none", 4, 1)
        Grid(tmp_path, "heart").cell("early", 4, 1)
        (table,) = tables(tmp_path, other_trainings)
        for title in ("p", "p, ranks", "without one", "seeds needed"):
            assert column(table, title) == ["–", "–"]

    def test_what_is_missing_is_said(self, tmp_path):
        grid = Grid(tmp_path, "heart")
        grid.cell("none", 4, 2)
        grid.cell("early", 4, 5)
        (table,) = tables(tmp_path, comparisons)
        assert (
            table.notes[-1] == "n = 4, early against none: none lacks seed 2, 3, 4 of 4 subjects."
        )

    @pytest.mark.parametrize("make", [comparisons, other_trainings])
    def test_rows_of_different_seeds_are_said_not_to_be_comparable(self, heart, make):
        said = "Rows of different seeds are not to be compared with each other."
        assert said not in tables(heart.root, make)[0].notes
        heart.cell("early", 4, 2, "theta=0.4")
        assert said in tables(heart.root, make)[0].notes

    def test_sides_of_a_person_are_said_not_to_be_independent(self, heart):
        (table,) = tables(heart.root, comparisons)
        assert "over the 2 persons" in " ".join(table.notes)


class TestArms:
    def test_it_has_every_arm_with_both_variances(self, heart):
        heart.cell("early", 4, 2, "theta=0.4")
        (table,) = tables(heart.root, results.arms)
        names = column(table, "arm")
        assert names.count("early, theta=0.4") == 2  # Dice and HD95
        assert len(names) == 2 * 7
        (row,) = (r for r in saved(table, heart.root)
                  if (r["n"], r["arm"], r["metric"]) == ("4", "none", "dice"))  # fmt: skip
        assert 2 < float(row["sd_subjects"]) < 15
        assert 0 <= float(row["sd_seeds"]) < 4
        assert 0.5 < float(row["sd_residual"]) < 4


def test_folders_left_out_are_named_below_the_root(tmp_path):
    folder = LeftOut(tmp_path / "heart" / "seed3", "failed", "out of memory")
    table = results.left_out([folder], tmp_path)
    assert [entry.text for entry in table.rows[0]] == ["heart/seed3", "failed", "out of memory"]


NASTY = "a|b_c & 50% $x$ #1 {y} ~^\\ <script> ± − θ † `code` [link](x)\nnext"


@pytest.fixture
def nasty():
    columns = (Column("name", ("name",), is_number=False), Column("mean", ("mean", "sem")))
    rows = (
        (Entry(NASTY, (NASTY,)), Entry("1.0 ± 0.2", (1.04, 0.21), bold=True)),
        (Entry("plain", ("plain",)), Entry("–", (None, None))),
    )
    return Table("nasty", f"Title {NASTY}", columns, rows, (NASTY,), {"task": "t"})


class TestFormats:
    def test_markdown_has_as_many_cells_in_every_row(self, nasty):
        lines = [line for line in markdown(nasty).splitlines() if line.startswith("|")]
        assert len(lines) == 4
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}
        assert "**1.0 ± 0.2**" in lines[2]
        assert "<script>" not in markdown(nasty).replace(r"\<script\>", "")

    def test_csv_gives_every_value_back(self, nasty, tmp_path):
        nasty.write(tmp_path)
        text = (tmp_path / "nasty.csv").read_text()
        assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
            {"task": "t", "name": NASTY, "mean": "1.04", "sem": "0.21"},
            {"task": "t", "name": "plain", "mean": "", "sem": ""},
        ]

    def test_latex_is_booktabs_with_nothing_unescaped(self, nasty):
        text = latex(nasty)
        for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\addlinespace", r"\textbf{1.0"):
            assert rule in text
        body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
        bare = re.sub(r"\\[&%$#_{}]", "", body)
        assert bare.count("&") == 2
        assert not re.search(r"[%#_]", bare)
        assert text.isascii()

    @pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex on this machine")
    def test_latex_compiles(self, nasty, heart, tmp_path):
        makers = (results.results, comparisons, other_trainings, results.arms)
        every = [nasty, *(table for make in makers for table in tables(heart.root, make))]
        body = "\n\\clearpage\n".join(map(latex, every))
        (tmp_path / "all.tex").write_text(
            "\\documentclass{article}\\usepackage{booktabs}\\usepackage{textcomp}"
            f"\\begin{{document}}\n{body}\\end{{document}}\n"
        )
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [(1.005, False, "1.00"), (-0.5, False, "−0.50"), (0.5, True, "+0.50"), (-0.001, True, "0.00"),
     (0.001, True, "0.00"), (float("nan"), True, "–"), (None, False, "–"),
     (float("inf"), False, "∞")],
)  # fmt: skip
def test_numbers_as_people_write_them(value, sign, text):
    assert number(value, 2, sign=sign) == text


def test_a_tiny_probability_is_a_bound():
    assert probability(0.00099) == "< 0.001"
    assert probability(0.0123) == "0.012"
    assert probability(float("nan")) == "–"


def test_missing_values_sort_apart():
    assert Entry("–", (None,)).sort_key == Entry("–", (float("nan"),)).sort_key == ""
    assert Entry("4 (30 %)", (4,)).sort_key == "4"
