"""The command: from a folder of runs to a report, and what it says of bad ones."""

import json
import re

import pytest
from commands import assert_refused, compose, shell, table
from synthetic import Grid

from fdseg.errors import FdsegError
from fdseg.report.__main__ import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Real and phantom runs of one task, one unfinished and one failed."""
    root = tmp_path_factory.mktemp("runs")
    for phantom in (False, True):
        grid = Grid(root, "heart", phantom=phantom)
        for fusion in ("none", "early"):
            grid.cell(fusion, 4, 2)
    (grid.add("late", 12, 0) / "result.json").unlink()
    failed = Grid(root, "heart").add("late", 12, 0)
    (failed / "result.json").unlink()
    (failed / "failure.json").write_text(json.dumps({"reason": "out of memory", "traceback": ""}))
    return root


@pytest.fixture(scope="module")
def done(runs):
    return shell("report", f"runs={runs}")


def test_it_writes_tables_figures_scores_and_the_page(runs, done):
    assert done.returncode == 0, done.stderr
    files = {p.relative_to(runs / "report").as_posix() for p in (runs / "report").rglob("*.*")}
    assert files >= {
        "report.html", "scores.csv", "tables/runs.csv", "tables/left_out.csv",
        *(f"tables/{study}-{table}.{ending}" for study in ("heart", "heart-phantom")
          for table in ("results", "comparisons", "other_trainings", "arms")
          for ending in ("md", "tex", "csv")),
        *(f"figures/{study}-{figure}.{ending}" for study in ("heart", "heart-phantom")
          for figure in ("scores", "differences", "learning") for ending in ("svg", "png")),
    }  # fmt: skip


def test_it_prints_the_main_tables_and_what_was_left_out(runs, done):
    assert "### heart: Dice and HD95 by training size" in done.stdout
    assert "### PHANTOM heart: Dice and HD95 by training size" in done.stdout
    assert "### Left out: 2 folders" in done.stdout
    assert "out of memory" in done.stdout
    assert "20 epochs done" in done.stdout
    assert f"{runs}/report/report.html" in done.stdout


def test_progress_goes_where_errors_go(done):
    assert "Reading runs" in done.stderr
    assert "Reading runs" not in done.stdout


def test_no_table_mixes_phantom_and_real(runs, done):
    assert done.returncode == 0
    for path in (runs / "report" / "tables").glob("heart*.csv"):
        assert {row["phantom"] for row in table(path)} == {str("phantom" in path.name)}


def test_every_score_of_every_run_is_kept(runs, done):
    assert done.returncode == 0
    rows = table(runs / "report" / "scores.csv")
    assert len(rows) == 8 * 4
    assert {row["phantom"] for row in rows} == {"True", "False"}


def test_the_page_says_how_it_was_made(runs, done):
    assert done.returncode == 0
    page = (runs / "report" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"python -m fdseg.report runs={runs} (fdseg 0.1.0)" in page


def test_a_second_report_is_the_same_and_reads_nothing_of_the_first(runs, done):
    def content():
        return {path: path.read_bytes() for path in (runs / "report").rglob("*") if path.is_file()}

    before = content()
    stale = runs / "report" / "tables" / "gone-results.csv"
    stale.write_text("")
    assert shell("report", f"runs={runs}").stdout.splitlines()[:-2] == done.stdout.splitlines()[:-2]
    assert content() == before


def test_a_figure_that_fails_costs_nothing_else(runs, tmp_path):
    (tmp_path / "figures" / "heart-scores.svg").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"heart-scores\.svg: this picture could not be made"):
        run(compose("report", f"runs={runs}", f"output={tmp_path}"))
    assert len(table(tmp_path / "scores.csv")) == 2 * 4 * 4
    page = (tmp_path / "report.html").read_text()
    assert page.count("Scores against n. Bars") == 2  # of the phantoms: its label and its caption
    assert page.count("What each test subject gains over none") == 4


def test_files_of_others_in_the_output_folder_are_left_alone(tmp_path):
    theirs = tmp_path / "out" / "tables" / "mine.csv"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    Grid(tmp_path / "runs", "heart").add()
    run(compose("report", f"runs={tmp_path}/runs", f"output={tmp_path}/out"))
    assert theirs.read_text() == "mine"
    assert (tmp_path / "out" / "report.html").is_file()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_a_full_disk_leaves_an_earlier_report_whole_and_room_makes_a_new_one(tmp_path, small_disk):
    words = [f"runs={tmp_path}/runs", f"output={small_disk.folder}"]
    grid = Grid(tmp_path / "runs", "heart")
    grid.cell("none", 4, 2)
    small_disk.enlarge()
    run(compose("report", *words))
    gone = small_disk.folder / "figures" / "heart-gone.svg"
    gone.write_text("of a study that is no longer there")
    before = contents(small_disk.folder)
    grid.cell("early", 4, 2)
    small_disk.fill()
    ended = shell("report", *words)
    assert_refused(ended, "cannot be written (No space left on device; the disk is")
    assert contents(small_disk.folder) == before
    small_disk.empty()
    run(compose("report", *words))
    after = contents(small_disk.folder)
    assert before.keys() - after.keys() == {gone}
    assert small_disk.folder / "figures" / "heart-differences.svg" in after


def test_a_grid_that_has_begun_has_no_table_without_rows(tmp_path):
    grid = Grid(tmp_path, "heart")
    grid.add("none", 4, 0)
    (grid.add("none", 12, 0) / "result.json").unlink()
    ended = shell("report", f"runs={tmp_path}")
    assert ended.returncode == 0, ended.stderr
    page = (tmp_path / "report" / "report.html").read_text()
    for text in (ended.stdout, page):
        assert "There is nothing to compare yet." in text
    assert "### Left out: 1 folder\n" in ended.stdout
    assert "\n1 run, " in ended.stdout
    assert "<p>1 run of 1 study; left out: " in page
    for body in re.findall("<tbody>(.*?)</tbody>", page, flags=re.DOTALL):
        assert "<tr>" in body
    for path in (tmp_path / "report" / "tables").glob("*.csv"):
        assert table(path), path.name
    assert not list((tmp_path / "report" / "tables").glob("*comparisons*"))


class TestBadInput:
    def test_it_is_one_line_and_status_2(self, tmp_path):
        done = shell("report", f"runs={tmp_path}/nowhere")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: runs={tmp_path}/nowhere: no such folder")
        assert "Traceback" not in done.stderr

    def test_a_misspelt_key_is_refused_with_the_nearest(self):
        done = shell("report", "famly=[heart]")
        assert done.returncode == 2
        assert "famly: no such key. Did you mean family" in done.stderr

    def test_no_finished_run_says_what_there_is(self, tmp_path):
        (Grid(tmp_path, "heart").add() / "result.json").unlink()
        with pytest.raises(FdsegError, match=r"no finished run is in it(.|\n)*20 epochs done"):
            run(compose("report", f"runs={tmp_path}"))
        assert not (tmp_path / "report").exists()

    @pytest.mark.parametrize("name", ["scores.csv", "tables/heart-results.csv"])
    def test_an_output_that_is_a_file_of_a_run(self, tmp_path, name):
        folder = Grid(tmp_path, "heart").add()
        path = tmp_path / "report" / name
        path.parent.mkdir(parents=True)
        path.symlink_to(folder / "cases.csv")
        with pytest.raises(FdsegError, match=rf"{path}: belongs to the run {folder}, and would be"):
            run(compose("report", f"runs={tmp_path}"))
        assert path.is_symlink()

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("alpha=2", "alpha=2: expected a number between 0 and 1"),
            ("power=high", "power=high: expected a number between 0 and 1"),
            ("unit=voxel", "unit=voxel: expected case or participant"),
            ("pictures_mb=-1", "pictures_mb=-1: expected a number of megabytes"),
            ("family=[heart,heart]", "expected a list of tasks, each named once"),
            ("family=[[heart],[]]", "expected a list of tasks, each named once"),
            ("family=heart", "expected a list of tasks, each named once"),
        ],
    )
    def test_an_option_that_cannot_be(self, tmp_path, word, message):
        with pytest.raises(FdsegError, match=message):
            run(compose("report", f"runs={tmp_path}", word))

    def test_a_task_whose_name_would_leave_the_folder(self, tmp_path):
        folder = Grid(tmp_path, "heart").add()
        for name in ("result.json", "config.yaml"):
            text = (folder / name).read_text()
            text = text.replace('"heart"', '"../../x"').replace("name: heart", "name: ../../x")
            (folder / name).write_text(text)
        with pytest.raises(FdsegError, match=r"'\.\./\.\./x' is no name of a task"):
            run(compose("report", f"runs={tmp_path}"))


def test_help_names_every_key():
    done = shell("report", "--help")
    assert done.returncode == 0
    for key in ("runs:", "output:", "unit:", "alpha:", "power:", "family:", "pictures_mb:"):
        assert key in done.stdout
