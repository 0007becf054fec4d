"""The README's example of a folder of one's own, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import table

import fdseg

README = Path(fdseg.__file__).parent.parent / "README.md"


def commands(name):
    """The fenced block behind its mark."""
    return re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", README.read_text(), re.S)[1]


@pytest.mark.slow
def test_the_example_of_a_folder_of_ones_own_runs_to_its_end(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands("own")],
        cwd=tmp_path, env={**os.environ, "PATH": path, "PYTHONPATH": str(README.parent)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    cohort = tmp_path / "runs" / "Task02_Heart" / "cohort"
    assert sorted(p.name for p in cohort.iterdir()) == ["cohort.csv", "cohort.png", "split.json"]
    (evaluation,) = tmp_path.rglob("evaluation.csv")
    (own,) = tmp_path.rglob("cases.csv")
    dice = [{row["case"]: row["dice"] for row in table(file)} for file in (evaluation, own)]
    assert dice[0] == dice[1]
    assert len(dice[0]) == 2
