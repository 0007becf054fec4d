"""What is pooled and what is not, and what arms are called."""

import itertools
import json
import math

import pytest
import yaml
from synthetic import Grid

from fdseg.config import FOLDER
from fdseg.report.arms import studies
from fdseg.report.collect import collect


@pytest.fixture
def grid(tmp_path):
    return Grid(tmp_path, "hippocampus")


def only_study(grid):
    (study,) = studies(collect(grid.root).runs)
    return study


def names(grid):
    return [arm.name for arm in only_study(grid).arms]


AUGMENTED = "augmentation=standard"
BY_FILE = "data.split.by=file"


def test_seeds_and_sizes_of_the_same_settings_are_one_arm(grid):
    for n in (4, 17):
        grid.cell("early", n, 2)
    (arm,) = only_study(grid).arms
    assert arm.name == "early"
    assert {n: [run.seed for run in runs] for n, runs in arm.runs.items()} == {
        4: [0, 1], 17: [0, 1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("theta=0.2", "theta=0.2"),
        ("theta=[0.1,0.1,1]", "theta=[0.1,0.1,1]"),
        ("split=as_released", "split=as_released"),
        (AUGMENTED, "augmentation=standard"),
        (BY_FILE, "data.split.by=file"),
        ("optimizer.lr=0.01", "optimizer.lr=0.01"),
        ("optimizer=sgd", "optimizer=sgd"),
        ("loss=dice_ce", "loss=dice_ce"),
        ("trainer.max_epochs=30", "trainer.max_epochs=30"),
        ("scores.neighbours=26", "scores.neighbours=26"),
    ],
)
def test_anything_else_makes_another_arm_named_by_it(grid, override, name):
    grid.cell("early", 4, 3)
    grid.cell("early", 4, 2, override)
    assert names(grid) == ["early", f"early, {name}"]


OPTIONS = [
    (group, path.stem)
    for group in ("augmentation", "loss", "optimizer", "split")
    for path in sorted((FOLDER / group).glob("*.yaml"))
]


@pytest.mark.parametrize("group", sorted({group for group, _ in OPTIONS}))
def test_an_option_is_called_as_in_the_command(grid, group):
    options = [option for other, option in OPTIONS if other == group]
    for option in options:
        grid.add("early", 4, 0, f"{group}={option}")
    reference, *others = names(grid)
    assert reference == "early"
    (common,) = only_study(grid).reference
    assert {common, *(name.removeprefix("early, ") for name in others)} == {
        f"{group}={option}" for option in options
    }


def test_the_order_of_keys_makes_no_name(grid):
    grid.cell("early", 4, 3)
    config = grid.add("early", 4, 0, "split=swap") / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(dict(reversed(content.items())), sort_keys=False))
    assert names(grid) == ["early", "early, split=swap"]


def test_what_an_option_does_not_have_of_itself_is_named_as_well(grid):
    grid.cell("early", 4, 2)
    grid.add("early", 4, 0, "split=random")
    grid.add("early", 4, 0, "split=random", "split.mask.seed=1")
    grid.add("early", 4, 0, "split=butterworth", "theta=0.2")
    grid.add("early", 4, 0, "split=ball", "split.mask.theta=0.3")
    grid.add("early", 4, 0, "optimizer=adamw", "+optimizer.amsgrad=true")
    grid.add("early", 4, 0, "backbone=segresnet", "backbone.features=16")
    grid.add("early", 4, 0, "split=low_only")
    assert names(grid)[1:] == [
        "early, backbone=segresnet, backbone.features=16",
        "early, optimizer=adamw, optimizer.amsgrad=True",
        "early, split=ball, split.mask.theta=0.3",
        "early, split=butterworth, theta=0.2",
        "early, split=low_only",
        "early, split=random",
        "early, split=random, split.mask.seed=1",
    ]
    assert only_study(grid).reference == (
        "backbone=unet", "optimizer=adam", "split=box", "theta=0.1"
    )  # fmt: skip


def test_a_fusion_of_another_name_says_all_that_its_stem_is(grid):
    grid.cell("none", 4, 2)
    grid.cell("early", 4, 2)
    grid.cell("rescaled", 4, 2)
    assert names(grid) == ["none", "early", "rescaled"]
    assert only_study(grid).reference == ()


def test_equal_values_of_two_things_are_named_twice(tmp_path):
    grid = Grid(tmp_path, "hippocampus", phantom=True)
    grid.cell("early", 4, 2)
    grid.add("early", 4, 0, "data.split.seed=1", "data.phantom.seed=1")
    grid.add("early", 4, 0, "data.split.seed=1")
    assert names(grid)[1:] == [
        "early, data.phantom.seed=1, data.split.seed=1", "early, data.split.seed=1"
    ]  # fmt: skip


def test_a_class_that_is_no_option_is_called_by_its_name(grid):
    grid.cell("early", 4, 2)
    grid.add("early", 4, 0, "optimizer._target_=torch.optim.RAdam")
    assert names(grid)[1] == "early, optimizer=RAdam"


@pytest.mark.parametrize(
    "override", ["data.root=/elsewhere", "loader.workers=3", "logger=wandb", "trainer.devices=2"]
)
def test_places_devices_and_views_make_no_arm(grid, override):
    grid.add("early", 4, 0)
    grid.add("early", 4, 1, override)
    assert names(grid) == ["early"]


def test_a_backbones_name_stands_for_all_that_comes_with_it(grid):
    grid.cell("none", 4, 2)
    grid.cell("none", 4, 1, "backbone=segresnet")
    assert names(grid) == ["none", "none, backbone=segresnet"]
    assert only_study(grid).reference == ("backbone=unet",)


def test_two_sizes_of_another_backbone_are_two_arms(grid):
    grid.cell("none", 4, 2)
    for width in (8, 16):
        grid.cell("none", 4, 1, "backbone=segresnet", f"backbone.features={width}")
    assert len(set(names(grid))) == 3


def test_other_data_under_the_same_name_is_another_arm(grid):
    grid.cell("none", 4, 2)
    manifest = grid.add("none", 4, 2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("hippocampus-participant-False", "0123abcd"))
    assert names(grid) == ["none", "none, fingerprint=0123abcd"]


def test_the_commonest_settings_are_the_reference_whatever_they_are(grid):
    grid.cell("early", 4, 3, AUGMENTED, "theta=0.3")
    grid.cell("early", 4, 2, AUGMENTED, "theta=0.2")
    grid.cell("early", 4, 1)
    study = only_study(grid)
    assert [arm.name for arm in study.arms] == [
        "early", "early, augmentation=none, theta=0.1", "early, theta=0.2"
    ]  # fmt: skip
    assert study.reference == ("augmentation=standard", "theta=0.3")


@pytest.mark.parametrize("other", ["split=double", "theta=0.3"])
def test_the_papers_split_is_the_reference_although_others_were_run_more_often(grid, other):
    grid.cell("none", 4, 2)
    grid.cell("early", 4, 2)
    grid.cell("early", 4, 3, other)
    assert names(grid) == ["none", "early", f"early, {other}"]
    study = only_study(grid)
    whole = [f"early, {other}"] if "double" in other else []
    early = study.reference_arm("early")
    assert [arm.name for arm in study.baselines(early, "dice")] == ["none", *whole]


def test_of_equally_common_settings_the_papers_are_the_reference(grid):
    for theta in (0.05, 0.1, 0.2):
        grid.cell("early", 4, 2, f"theta={theta}")
    for extra in ((), (AUGMENTED,), (BY_FILE,)):
        grid.cell("none", 4, 2, *extra)
    assert names(grid)[:2] == ["none", "early"]
    assert only_study(grid).reference_arm("early").settings["theta"] == 0.1


def test_an_arm_without_a_split_has_no_theta(grid):
    grid.cell("none", 4, 2, "theta=0.1")
    grid.cell("none", 17, 2, "theta=0.3")
    grid.cell("early", 4, 1, "theta=0.1")
    grid.cell("early", 4, 1, "theta=0.3")
    assert names(grid) == ["none", "early", "early, theta=0.3"]


def test_two_departures_are_both_named(grid):
    grid.cell("early", 4, 2)
    grid.cell("early", 4, 1, "theta=0.2", "optimizer.lr=0.01")
    assert names(grid)[1] == "early, optimizer.lr=0.01, theta=0.2"


def test_no_two_arms_have_the_same_name(grid):
    overrides = [("theta=0.2",), (AUGMENTED,), ("optimizer=sgd",), ("optimizer.lr=0.5",)]
    for extra in itertools.chain([()], overrides, itertools.combinations(sum(overrides, ()), 2)):
        grid.add("early", 4, 0, *extra)
    # The same class with other arguments, of which a short name says nothing.
    grid.add("early", 4, 0, "optimizer=sgd", "optimizer.lr=0.3")
    grid.add("early", 4, 0, "optimizer=sgd", "optimizer.momentum=0.3")
    found = names(grid)
    assert len(found) == len(set(found)) == 1 + 4 + 6 + 2
    assert all("settings" not in text for text in only_study(grid).reference)


class TestBaseline:
    def against(self, grid, name, metric="dice"):
        study = only_study(grid)
        arm = next(arm for arm in study.arms if arm.name == name)
        baseline = study.baseline(arm, metric)
        return baseline and baseline.name

    def test_every_split_shares_the_arm_without_one(self, grid):
        grid.cell("none", 4, 2)
        grid.cell("late", 4, 2)
        grid.cell("early", 4, 1, "theta=0.2")
        assert self.against(grid, "late") == "none"
        assert self.against(grid, "early, theta=0.2") == "none"
        assert self.against(grid, "none") is None

    def test_augmented_is_compared_with_augmented_only(self, grid):
        grid.cell("none", 4, 3)
        grid.cell("early", 4, 3)
        grid.cell("early", 4, 1, AUGMENTED)
        name = "early, augmentation=standard"
        assert self.against(grid, name) is None
        grid.cell("none", 4, 1, AUGMENTED)
        assert self.against(grid, name) == "none, augmentation=standard"

    def test_the_papers_split_is_compared_with_two_stems_without_one_too(self, grid):
        for extra in ((), (AUGMENTED,)):
            grid.cell("none", 4, 2, *extra)
            grid.cell("early", 4, 2, *extra)
        grid.cell("early", 4, 2, "split=double")
        grid.cell("early", 4, 2, "split=swap")
        grid.cell("late", 4, 2)
        study = only_study(grid)
        found = {a.name: [b.name for b in study.baselines(a, "dice")] for a in study.arms}
        assert found == {
            "none": [], "none, augmentation=standard": [],
            "early": ["none", "early, split=double"],
            "early, augmentation=standard": ["none, augmentation=standard"],
            "early, split=double": ["none"], "early, split=swap": ["none"], "late": ["none"],
        }  # fmt: skip

    def test_how_hd95_is_taken_matters_to_hd95_only(self, grid):
        grid.cell("none", 4, 2)
        grid.cell("early", 4, 1, "split=as_released", "scores.neighbours=26")
        name = next(name for name in names(grid) if "as_released" in name)
        assert self.against(grid, name, "dice") == "none"
        assert self.against(grid, name, "hd95_mm") is None


def test_phantom_and_real_runs_are_two_studies(tmp_path):
    for phantom in (True, False):
        Grid(tmp_path, "heart", phantom=phantom).cell("none", 4, 2)
    Grid(tmp_path, "red_nucleus").cell("none", 4, 1)
    found = studies(collect(tmp_path).runs)
    assert [study.name for study in found] == ["red_nucleus", "heart", "heart-phantom"]
    assert found[2].title == "PHANTOM heart"
    for study in found:
        runs = [run for arm in study.arms for seeds in arm.runs.values() for run in seeds]
        assert {run.phantom for run in runs} == {study.phantom}


class TestScores:
    def test_a_subject_is_a_case_or_a_person(self, grid):
        grid.cell("none", 4, 2)
        (arm,) = only_study(grid).arms
        cases, people = (arm.scores(4, "dice", unit) for unit in ("case", "participant"))
        assert len(cases.subjects) == 52
        assert len(people.subjects) == 26
        # Files 0 and 1 are the two sides of person 0.
        assert people.means[people.subjects.index("person0")] == pytest.approx(
            cases.means[:2].mean()
        )
        assert people.mean == pytest.approx(cases.mean)

    def test_the_table_is_subjects_by_seeds(self, grid):
        grid.cell("none", 4, 3)
        (arm,) = only_study(grid).arms
        assert arm.scores(4, "dice").table.shape == (52, 3)
        assert arm.scores(4, "dice").seeds == (0, 1, 2)

    def test_an_infinite_distance_leaves_dice_alone(self, grid):
        folder = grid.add("none", 4, 0, 'scores.empty="inf"')
        rows = [line.split(",") for line in (folder / "cases.csv").read_text().splitlines()]
        rows[1][5] = "inf"
        (folder / "cases.csv").write_text("\n".join(map(",".join, rows)) + "\n")
        result = json.loads((folder / "result.json").read_text())
        result["test"]["hd95_mm"]["mean"] = math.inf
        (folder / "result.json").write_text(json.dumps(result))
        (arm,) = only_study(grid).arms
        assert arm.scores(4, "hd95_mm") is None
        assert arm.scores(4, "dice").mean > 0.7
