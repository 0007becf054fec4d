"""Reading a folder of runs: good ones whole, bad ones left out with the reason."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from commands import table
from synthetic import FAMILY, Grid, copy

from fdseg.errors import FdsegError
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.contrasts import Rules
from fdseg.report.findings import findings
from fdseg.report.finished import read_history


@pytest.fixture
def grid(tmp_path):
    return Grid(tmp_path, "hippocampus")


def change(path, **values):
    """Change some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def only_reason(grid):
    """Why the one run of a folder was left out."""
    found = collect(grid.root)
    assert not found.runs
    (problem,) = found.left_out
    return f"{problem.kind}: {problem.reason}"


def test_a_run_is_read_as_it_was_written(grid):
    folder = grid.add("early", 17, 3)
    (run,) = collect(grid.root).runs
    assert (run.task, run.phantom, run.fusion, run.n, run.seed) == (
        "hippocampus", False, "early", 17, 3,
    )  # fmt: skip
    assert run.folder == folder
    assert len(run.cases) == 52
    first = table(folder / "cases.csv")[:2]
    assert {row["structure"] for row in first} == {"anterior", "posterior"}
    assert run.cases[0].case == first[0]["case"]
    assert run.cases[0].scores["dice"] == sum(float(row["dice"]) for row in first) / 2
    assert run.cases[0].scores["hd95_mm"] == sum(float(row["hd95_mm"]) for row in first) / 2
    assert run.settings["theta"] == 0.1
    assert run.manifest["versions"]["fdseg"] == "0.1.0"


def test_the_history_leaves_out_what_was_not_measured(grid):
    grid.add()
    (run,) = collect(grid.root).runs
    rows = read_history(run)
    assert [row["epoch"] for row in rows] == [*range(1, 21)]
    assert [row["epoch"] for row in rows if "validation_dice" in row] == [5, 10, 15, 20]


@pytest.mark.parametrize("broken", [None, "epoch,train_loss\n1,x\n", "\x00", "time,loss\n1,2\n"])
def test_a_broken_history_costs_the_curve_but_not_the_scores(grid, broken):
    history = grid.add() / "history.csv"
    history.unlink() if broken is None else history.write_text(broken)
    (run,) = collect(grid.root).runs
    assert read_history(run) == []


def test_a_loss_that_is_no_number_leaves_a_gap_in_the_curve(grid):
    history = grid.add() / "history.csv"
    history.write_text("epoch,train_loss\n1,0.9\n2,nan\n3,inf\n4,0.7\n")
    (run,) = collect(grid.root).runs
    assert [row.get("train_loss") for row in read_history(run)] == [0.9, None, None, 0.7]


def test_what_a_run_holds_is_not_taken_for_runs(grid):
    folder = grid.add()
    for inside in (folder / "wandb" / "run" / "files", grid.root / "cache" / "x"):
        inside.mkdir(parents=True)
        (inside / "config.yaml").write_text("{}")
    (grid.root / "report").mkdir()
    (grid.root / "report" / "cases.csv").write_text("")
    found = collect(grid.root, skip=grid.root / "report")
    assert (len(found.runs), found.left_out) == (1, ())


class TestLeftOut:
    def test_an_unfinished_run_with_its_epochs(self, grid):
        (grid.add() / "result.json").unlink()
        assert only_reason(grid).startswith("unfinished: no result.json, 20 epochs done")

    def test_a_failed_run_with_the_first_line_of_its_reason(self, grid):
        folder = grid.add()
        (folder / "result.json").unlink()
        (folder / "failure.json").write_text('{"reason": "loss is NaN at step 7\\nmore"}')
        assert only_reason(grid) == "failed: loss is NaN at step 7"

    def test_a_run_that_failed_once_and_then_finished_counts(self, grid):
        (grid.add() / "failure.json").write_text('{"reason": "out of memory"}')
        assert len(collect(grid.root).runs) == 1

    @pytest.mark.parametrize("name", ["config.yaml", "cases.csv", "manifest.json"])
    def test_a_run_that_lacks_a_file(self, grid, name):
        (grid.add() / name).unlink()
        assert only_reason(grid) == f"corrupt: {name} is missing"

    @pytest.mark.parametrize("name", ["result.json", "manifest.json", "config.yaml"])
    @pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b'{"a": [1, 2'])
    def test_a_file_that_was_cut(self, grid, name, content):
        (grid.add() / name).write_bytes(content)
        assert only_reason(grid).startswith(f"corrupt: {name} is not whole:")

    @pytest.mark.parametrize("name", ["result.json", "manifest.json", "config.yaml"])
    def test_a_file_of_another_program(self, grid, name):
        folder = grid.add()
        (folder / name).write_text("[1, 2]")
        assert only_reason(grid) == f"foreign: {name} holds no keys"
        (folder / name).write_text('{"accuracy": 1.0}')
        expected = "foreign: not a run of fdseg.train"
        if name == "result.json":
            expected = "corrupt: result.json is not whole: task is missing"
        assert only_reason(grid).startswith(expected)

    def test_a_folder_that_only_looks_like_a_run(self, grid):
        (grid.root / "other").mkdir()
        (grid.root / "other" / "history.csv").write_text("a,b\n1,2\n")
        assert only_reason(grid).startswith("foreign: not a run")

    @pytest.mark.parametrize(
        ("key", "value"), [("n", 8), ("seed", 5), ("fusion", "late"), ("task", "heart")]
    )
    def test_a_result_that_was_moved_to_another_run(self, grid, key, value):
        change(grid.add("early") / "result.json", **{key: value})
        assert f"result.json {key}={value}" in only_reason(grid)

    @pytest.mark.parametrize("reason", ["", "  \n ", None, []])
    def test_a_failure_without_a_reason(self, grid, reason):
        folder = grid.add()
        (folder / "result.json").unlink()
        (folder / "failure.json").write_text(json.dumps({"reason": reason}))
        assert only_reason(grid) == "failed: no reason given"

    @pytest.mark.parametrize(
        ("key", "value"), [("n", "4"), ("n", True), ("n", 0), ("n", 10**30), ("phantom", 0)]
    )
    def test_a_result_of_other_kinds(self, grid, key, value):
        change(grid.add() / "result.json", **{key: value})
        expected = f"corrupt: result.json is not whole: {key} cannot be {json.dumps(value)}"
        assert only_reason(grid).startswith(expected)

    @pytest.mark.parametrize("mean", ["0.7", None, float("nan"), 1.5])
    def test_a_result_whose_score_is_none(self, grid, mean):
        folder = grid.add()
        test = json.loads((folder / "result.json").read_text())["test"]
        change(folder / "result.json", test=test | {"dice": {"mean": mean, "sem": 0.1}})
        assert only_reason(grid) == (
            f"corrupt: result.json is not whole: test.dice.mean cannot be {json.dumps(mean)}; the "
            "same command writes it again"
        )

    def test_cases_that_are_not_those_of_the_result(self, grid):
        first, other = grid.add(seed=0), grid.add(seed=1)
        shutil.copy(first / "cases.csv", other / "cases.csv")
        found = collect(grid.root)
        assert [run.seed for run in found.runs] == [0]
        assert "cases.csv has a mean dice of 0.7" in found.left_out[0].reason

    @pytest.mark.parametrize(
        ("edit", "reason"),
        [
            (lambda lines: lines[:-1], "hippocampus_051 has anterior, not anterior, posterior"),
            (lambda lines: [*lines, lines[-1]], "line 106: hippocampus_051 has posterior twice"),
            (lambda lines: lines[:1], "holds no case"),
            (lambda lines: [*lines[:-1], lines[-1].split(",")[0]], "TypeError"),
            (lambda lines: [lines[0].replace("dice", "f1"), *lines[1:]], "KeyError: 'dice'"),
            (lambda lines: [lines[0].replace("case", "id"), *lines[1:]], "KeyError: 'case'"),
            (lambda lines: [lines[0].replace("participant", ""), *lines[1:]], "'participant'"),
            (lambda lines: [*lines[:-1], lines[-1].replace("False", "maybe")], "KeyError: 'maybe'"),
        ],
    )
    def test_a_table_of_cases_that_is_not_whole(self, grid, edit, reason):
        path = grid.add() / "cases.csv"
        path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")
        assert reason in only_reason(grid)

    @pytest.mark.parametrize(("dice", "hd95"), [("1.2", "3"), ("nan", "3"), ("0.5", "-1"),
                                                ("0.5", "nan")])  # fmt: skip
    def test_a_score_that_cannot_be(self, grid, dice, hd95):
        path = grid.add() / "cases.csv"
        rows = [line.split(",") for line in path.read_text().splitlines()]
        rows[1][4:6] = dice, hd95
        path.write_text("\n".join(map(",".join, rows)) + "\n")
        assert "cases.csv, line 2: Dice" in only_reason(grid)

    @pytest.mark.parametrize("sign", ["result.json", "manifest.json", "config.yaml", "its folder"])
    def test_a_run_that_is_neither_phantom_nor_real(self, grid, sign):
        folder = grid.add()
        if sign == "result.json":
            change(folder / sign, phantom=True)
        elif sign == "manifest.json":
            change(folder / sign, phantom={"seed": 0})
        elif sign == "config.yaml":
            (folder / sign).write_text((folder / sign).read_text().replace("root: /data", "root:"))
        else:
            (grid.root / "hippocampus").rename(grid.root / "hippocampus-phantom")
        reason = only_reason(grid)
        assert reason.startswith("mixed: neither phantom nor real")
        assert f"{sign}: phantom" in reason

    def test_a_copy_counts_once(self, grid):
        folder = grid.add()
        copy(folder, "again")
        found = collect(grid.root)
        assert len(found.runs) == 1
        assert found.left_out[0].kind == "double"
        assert "a copy of" in found.left_out[0].reason

    def test_the_same_run_with_two_results_counts_for_nothing(self, grid):
        folder = grid.add(dice=0.7)
        kept = folder.rename(folder.with_name("kept"))
        grid.add(dice=0.8)
        found = collect(grid.root)
        assert found.runs == ()
        assert {problem.folder for problem in found.left_out} == {folder, kept}
        assert all("keep one of them" in problem.reason for problem in found.left_out)

    def test_all_problems_are_listed_at_once(self, grid):
        good = grid.cell("none", 4, 3)
        bad = grid.cell("early", 4, 3)
        for folder, name in zip(bad, ("result.json", "config.yaml", "cases.csv"), strict=True):
            (folder / name).unlink()
        found = collect(grid.root)
        assert [run.folder for run in found.runs] == good
        assert [problem.folder for problem in found.left_out] == bad

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_folder_that_may_not_be_read(self, grid):
        folder = grid.add()
        folder.chmod(0)
        assert "Permission denied" in only_reason(grid)
        folder.chmod(0o755)


@pytest.mark.parametrize("state", range(48))
def test_a_damaged_run_is_left_out_or_read_as_it_was(grid, state):
    rng = np.random.default_rng(state)
    folder = grid.add(subjects=8)
    (before,) = collect(grid.root).runs
    name = ("result.json", "config.yaml", "cases.csv", "manifest.json")[state % 4]
    content = bytearray((folder / name).read_bytes())
    at = rng.integers(len(content))
    if state % 3 == 0:
        content[at] = rng.integers(256)
    elif state % 3 == 1:
        del content[at:]
    else:
        content[at:at] = content[at // 2 : at]
    (folder / name).write_bytes(content)
    found = collect(grid.root)
    assert len(found.runs) + len(found.left_out) == 1
    for run in found.runs:
        assert [c.scores for c in run.cases] == [
            pytest.approx(c.scores, rel=1e-4) for c in before.cases
        ]
        assert (run.task, run.phantom, run.n, run.seed, run.fusion) == (
            before.task, before.phantom, before.n, before.seed, before.fusion,
        )  # fmt: skip
        findings(studies(found.runs), Rules(FAMILY))


class TestYAML:
    @pytest.mark.parametrize(
        "text",
        ["!!python/object/apply:os.system ['touch HERE']", "a: !!python/name:os.system ''"],
    )
    def test_it_makes_no_objects(self, grid, text, tmp_path):
        (grid.add() / "config.yaml").write_text(text.replace("HERE", str(tmp_path / "made")))
        assert only_reason(grid).startswith(
            "corrupt: config.yaml is not whole: could not determine"
        )
        assert not (tmp_path / "made").exists()

    def test_a_few_lines_cannot_stand_for_billions_of_values(self, grid):
        config = grid.add() / "config.yaml"
        values = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
        values += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
        config.write_text(config.read_text() + "\n".join(values))
        assert "more than 10000 values" in only_reason(grid)

    def test_a_list_within_itself_ends(self, grid):
        config = grid.add() / "config.yaml"
        config.write_text(config.read_text() + "extra: &x [*x]\n")
        assert "more than 10000 values" in only_reason(grid)

    def test_a_date_is_no_setting(self, grid):
        config = grid.add() / "config.yaml"
        config.write_text(yaml.dump(yaml.safe_load(config.read_text())) + "extra: 2026-01-01\n")
        assert "type date" in only_reason(grid)


def test_no_run_is_left_out_because_the_output_lies_around_it(grid):
    folder = grid.add()
    for output in (folder, folder.parent, grid.root / "hippocampus"):
        with pytest.raises(FdsegError, match=rf"output={output}: holds a run \({folder}\), wh"):
            collect(grid.root, skip=output)
    assert len(collect(grid.root, skip=grid.root).runs) == 1
    assert len(collect(grid.root, skip=grid.root / "report").runs) == 1


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FdsegError, match=r"runs=.*nowhere: no such folder"):
        collect(tmp_path / "nowhere")
