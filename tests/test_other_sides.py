"""What notebooks/other_sides.py scores: the right volumes, told apart rightly, as evaluate does."""

import importlib.util
import json
from pathlib import Path

import pytest
from commands import compose, table, trained

import fdseg
from fdseg import evaluate, predict

pytestmark = pytest.mark.slow  # three trainings

SCRIPT = Path(fdseg.__file__).parent.parent / "notebooks" / "other_sides.py"
TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=14", "data.phantom.scale=0.4",
    "data.split.training=10", "data.split.validation=2", "data.split.test=2", "n=3",
    "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def scored(cohort, tmp_path_factory):
    """Two runs, another that departs from them, and the rows of the script."""
    root = tmp_path_factory.mktemp("runs")
    words = [*TINY, f"data.cache={cohort}", f"runs={root}"]
    runs = {seed: trained(*words, f"seed={seed}") for seed in (0, 1)}
    trained(*words, "seed=0", "optimizer.lr=0.01")
    spec = importlib.util.spec_from_file_location("other_sides", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(root, root / "other_sides.csv")
    return runs, table(root / "other_sides.csv")


def drawn(run):
    return json.loads((run / "manifest.json").read_text())["drawn"]


def side(case):
    """The other side of its person: files 2k − 1 and 2k are of one."""
    number = int(case[-3:])
    return f"{case[:-3]}{number + 1 if number % 2 else number - 1:03}"


def test_every_run_scores_the_other_sides_of_whom_any_run_drew_but_none_that_it_drew(
    scored, cohort
):
    runs, rows = scored
    files = {path.name.partition(".")[0] for path in cohort.rglob("imagesTr/*")}
    sides = {
        side(case) for run in runs.values() for case in drawn(run) if side(case) not in drawn(run)
    }
    sides &= files  # of some people there is one side only
    assert sides
    for seed, run in runs.items():
        found = {row["case"]: row for row in rows if row["seed"] == str(seed)}
        assert found.keys() == sides - {*drawn(run)}
        for case, row in found.items():
            assert row["person_drawn"] == str(side(case) in drawn(run))


def test_dice_is_that_of_a_prediction_that_is_evaluated(scored, cohort, tmp_path):
    runs, rows = scored
    (images,) = cohort.rglob("imagesTr")
    predict.run(compose("predict", f"run={runs[0]}", f"input={images}", f"output={tmp_path}"))
    labels = images.parent / "labelsTr"
    words = [
        f"predictions={tmp_path}",
        f"labels={labels}",
        "structures={anterior: 1, posterior: 2}",
    ]
    evaluate.run(compose("evaluate", *words))
    by_case = {}
    for row in table(tmp_path / "evaluation.csv"):
        by_case.setdefault(row["case"], []).append(float(row["dice"]))
    mine = [row for row in rows if row["seed"] == "0"]
    assert mine
    for row in mine:
        expected = sum(by_case[row["case"]]) / 2
        assert float(row["dice"]) == pytest.approx(expected, abs=1e-6)
