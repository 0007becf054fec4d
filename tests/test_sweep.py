import json
from collections import Counter

import hydra
import pytest
from commands import shell
from omegaconf import OmegaConf
from synthetic import RESULT

from fdseg import config as configuration
from fdseg import cost, runs, status, sweep
from fdseg.compose import hydra_ready
from fdseg.errors import FdsegError

PHANTOM = ["data.root=null", "data.phantom.subjects=6"]


@pytest.fixture
def place(tmp_path):
    """Overrides for a phantom below a folder of its own."""
    return [*PHANTOM, f"runs={tmp_path}"]


@pytest.mark.parametrize(
    ("name", "task", "sizes"),
    [
        ("table2_red_nucleus", "red_nucleus", (4, 8, 16, 51)),
        ("table2_dentate_nucleus", "dentate_nucleus", (4, 7, 13, 42)),
        ("table3_spleen", "spleen", (4, 8, 25)),
        ("table3_heart", "heart", (4, 12)),
        ("table3_hippocampus", "hippocampus", (4, 17, 83, 166)),
    ],
)
def test_a_table_is_every_size_times_ten_seeds_times_three_fusions(name, task, sizes):
    found = [config for _, _, config in sweep.configurations([f"+sweep={name}"])]
    assert {config.data.name for config in found} == {task}
    cells = Counter((config.n, config.seed, config.network.fusion) for config in found)
    expected = {(n, s, f) for n in sizes for s in range(10) for f in ("none", "early", "late")}
    assert cells == dict.fromkeys(expected, 1)


def test_the_five_tables_are_the_510_runs_of_the_study():
    names = [path.stem for path in configuration.FOLDER.glob("sweep/table*.yaml")]
    assert sum(len(list(sweep.configurations([f"+sweep={name}"]))) for name in names) == 510


def test_the_sweep_over_theta_is_a_grid_of_widths_fusions_and_seeds():
    found = [config for _, _, config in sweep.configurations(["+sweep=theta"])]
    cells = Counter((config.theta, config.fusion.name, config.seed) for config in found)
    widths = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
    assert cells == {(t, f, s): 1 for t in widths for f in ("early", "late") for s in range(5)}


def test_the_sweep_of_controls_has_every_control_once_per_seed_and_none_is_another():
    names = [path.stem for path in configuration.FOLDER.glob("control/*.yaml")]
    found = list(sweep.configurations(["+sweep=controls"]))
    cells = Counter((swept["+control"], swept["seed"]) for swept, _, _ in found)
    assert cells == {(name, str(seed)): 1 for name in names for seed in range(5)}
    sciences = {
        runs.identity(configuration.science(configuration.resolve(config)))
        for _, _, config in found
    }
    assert len(sciences) == len(found)


@pytest.mark.parametrize(
    ("name", "arms"),
    [
        ("regimes", [("none", 0.1), ("early", 0.1), ("late", 0.1)]),
        ("regimes_double", [("early", 0.1), ("late", 0.1)]),
        ("regimes_theta", [(f, t) for t in (0.2, 0.4) for f in ("early", "late")]),
    ],
)
def test_a_sweep_of_regimes_is_every_regime_times_five_seeds_times_its_arms(name, arms):
    regimes = [path.stem for path in configuration.FOLDER.glob("regime/*.yaml")]
    names = {f"blob_{r}" if r != "default" else "blob" for r in regimes}
    names = {"blob", "blob_small", "blob_large"} if name.endswith("theta") else names
    found = [config for _, _, config in sweep.configurations([f"+sweep={name}"])]
    cells = Counter((c.data.name, c.seed, (c.fusion.name, c.theta)) for c in found)
    assert cells == {(r, s, a): 1 for r in names for s in range(5) for a in arms}
    split = {"regimes_double": "WholeSplit"}.get(name, "BoxSplit")
    assert {c.split._target_ for c in found} == {f"fdseg.frequency.{split}"}
    sciences = {runs.identity(configuration.science(configuration.resolve(c))) for c in found}
    assert len(sciences) == len(found)


def test_a_regime_departs_from_the_default_in_one_trait():
    words = ["+sweep=regimes", "seed=0", "fusion=none", "data.phantom.noise=0.1"]
    configs = {swept["+regime"]: config for swept, _, config in sweep.configurations(words)}
    default = configs.pop("default").data
    assert default.phantom.noise == 0.1
    for regime, config in configs.items():
        changed = [k for k, v in config.data.phantom.items() if v != default.phantom[k]]
        assert len(changed) == 1, regime
        assert {k for k, v in config.data.items() if v != default[k]} == {"name", "phantom"}


def test_the_command_line_narrows_a_sweep():
    words = ["+sweep=table3_hippocampus", "n=4", "seed=3,5", "fusion=early"]
    found = [(c.n, c.seed, c.fusion.name) for _, _, c in sweep.configurations(words)]
    assert found == [(4, 3, "early"), (4, 5, "early")]
    words = ["+sweep=controls", "n=17", "seed=0,1", "+control=none,double"]
    found = [(c.n, c.seed, c.fusion.name) for _, _, c in sweep.configurations(words)]
    assert found == [(17, 0, "none"), (17, 0, "early"), (17, 1, "none"), (17, 1, "early")]


def test_jobs_composed_together_equal_those_that_hydra_composes_one_by_one():
    import hydra

    words = ["+experiment=heart", "fusion=none,late", "theta=0.1,[0.2,0.2,1]", "optimizer.lr=1e-4",
             "seed=1", "backbone=segresnet", "+trainer.profiler=simple"]  # fmt: skip
    for _, job, config in sweep.configurations(words):
        with hydra_ready():
            assert hydra.compose("train", overrides=job) == config


def test_a_run_is_found_where_training_puts_it(place):
    [point] = sweep.grid([*place, "seed=3", "fusion=late"])
    assert point.run is not None
    assert point.run.folder.match("hippocampus-phantom/unet/late/n4/seed3-????????")
    assert point.swept == {}
    assert point.state == runs.State("missing")


def finish(point, training=100.0):
    runs.write_json(point.run.folder / "result.json", RESULT)
    seconds = {"preparation": 1.0, "training": training, "test": 4.0}
    runs.write_json(point.run.folder / "manifest.json", {"seconds": seconds})


def begin(point, epochs, seconds=0.5):
    rows = [{"epoch": i + 1, "seconds": seconds} for i in range(epochs)]
    runs.write_csv(point.run.folder / "history.csv", ["epoch", "seconds"], rows)
    (point.run.folder / "lock").touch()


def find_own(folder, *words):
    """A run on a folder of one's own."""
    given = ["data=own", f"data.folder={folder}", "data.size=[8,8,8]", "n=1", *words]
    with hydra_ready():
        return sweep.find(hydra.compose("train", overrides=given))


def test_a_run_on_nnunets_layout_says_which_channel_it_is_trained_on(msd, tmp_path):
    listing = msd.folder / "dataset.json"
    labels = {"labels": {"background": 0, "front": 1, "back": 2}}
    listing.write_text(json.dumps(json.loads(listing.read_text()) | labels))
    where = f"data.cache={tmp_path / 'cache'}"
    msds = find_own(msd.folder, where), find_own(msd.folder, where, "data.cohort.channel=0")
    assert [found.config.data.cohort.channel for found in msds] == [None, None]
    listing.write_text(json.dumps(labels))
    for path in msd.images.values():
        path.rename(path.with_name(path.name.replace(".nii", "_0000.nii")))
    nnunets = find_own(msd.folder, where), find_own(msd.folder, where, "data.cohort.channel=0")
    assert [found.config.data.cohort.channel for found in nnunets] == [0, 0]
    for same in (msds, nnunets):
        assert same[0].folder == same[1].folder


def test_the_status_tells_done_running_stopped_failed_and_missing_apart(place, capsys):
    words = [*place, "fusion=none,early", "seed=range(3)", "n=4"]
    points = sweep.grid(words)
    assert [p.state.name for p in points] == ["missing"] * 6
    finish(points[0])
    begin(points[1], 150)
    begin(points[2], 30)
    runs.write_json(points[2].run.folder / "failure.json", {"reason": "out of memory"})
    begin(points[3], 75)
    with runs.only_process(points[3].run.folder):
        status.run(words)
        now = [p.state.name for p in sweep.grid(words)]
    printed = capsys.readouterr().out
    assert now == ["done", "stopped", "failed", "running", "missing", "missing"]
    assert "6 runs: 1 done, 1 running, 1 stopped, 1 failed, 2 missing" in printed
    assert "failed: fusion=none seed=2: out of memory" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert lines[0] == ["seed", "0", "1", "2"]
    assert lines[1] == ["fusion=none", "●", "◐", "✗", "50%"]
    assert lines[2] == ["fusion=early", "▶", "·", "·", "25%"]


def test_a_result_that_is_not_whole_is_not_done_and_the_status_says_why(place, capsys):
    (point,) = sweep.grid(place)
    finish(point)
    begin(point, 3)
    runs.write_json(point.run.folder / "result.json", RESULT | {"validation": None})
    reason = "result.json is not whole: validation cannot be null"
    assert sweep.grid(place)[0].state == runs.State("stopped", reason, 3, {"training": 1.5})
    status.run(place)
    assert f"  stopped: the run: {reason}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("seconds", [None, "100", [1], {"training": "100", "test": None}])
def test_a_manifest_without_its_times_costs_nothing_but_them(place, seconds):
    (point,) = sweep.grid(place)
    finish(point)
    runs.write_json(point.run.folder / "manifest.json", {"seconds": seconds})
    points = sweep.grid(place)
    assert points[0].state == runs.State("done")
    assert cost.remaining(points) == "used 0 s"


def test_the_time_left_follows_from_the_runs_done(place):
    words = [*place, "n=2,4", "seed=0,1", "trainer.max_epochs=100"]
    points = sweep.grid(words)
    finish(points[0], training=200)  # n=2: 200 steps, so 1 s a step, and 5 s beside
    begin(points[2], 50, seconds=4.0)  # n=4: 200 of 400 steps in 200 s
    # Left: n=2 whole, 205 s; n=4 half, 205 s; n=4 whole, 405 s.
    assert cost.remaining(sweep.grid(words)) == "used 7 min, left about 14 min"


def test_a_machine_reads_one_object_per_run(place, capsys):
    status.run([*place, "seed=0,1", "n=4,99", "--json"])
    values = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(v["seed"], v["n"], v["state"]) for v in values] == [
        ("0", "4", "missing"), ("0", "99", "failed"), ("1", "4", "missing"), ("1", "99", "failed")
    ]  # fmt: skip
    assert "n=99: the training set has" in values[1]["reason"]


def test_a_search_has_no_grid_and_says_so():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    with pytest.raises(FdsegError, match="searches as it goes"):
        sweep.grid(["+sweep=search"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+sweep=table4"], "sweep=table4: no such option"),
        (["sed=1,2"], "sed: no such key. Did you mean seed"),
        (["sed=1"], "sed: no such key. Did you mean seed"),
        (["fusion=none,erly"], "fusion=erly: no such option. Did you mean fusion=early?"),
    ],
)
def test_wrong_words_of_a_status_are_explained(words, message):
    ended = shell("status", *words)
    assert message in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def multirun(place, *words):
    return shell(
        "train", "-m", "+sweep=smoke", "trainer.max_epochs=1", "data.phantom.scale=0.5",
        "data.split.test=2", *place, *words,
    )  # fmt: skip


def test_a_failing_run_does_not_stop_the_others_and_the_sweep_ends_with_a_list(place):
    ended = multirun(place, "seed=0", "fusion=none,late", "n=999,2")
    assert ended.returncode == 1
    assert "4 runs: 2 done, 2 failed" in ended.stdout
    assert ended.stderr.count("n=999: the training set has") >= 4  # when it failed, and in the list
    again = multirun(place, "seed=0", "fusion=none,late", "n=2")
    assert again.returncode == 0
    assert "2 runs: 2 done" in again.stdout
    assert "Training" not in again.stderr


def test_a_sweep_ends_with_a_list_of_all_runs_that_are_not_done(place, capsys):
    words = [*place, "fusion=none,early", "seed=0,1"]
    points = sweep.grid(words)
    finish(points[0])
    begin(points[1], 30)
    begin(points[2], 30)
    runs.write_json(points[2].run.folder / "failure.json", {"reason": "out of memory"})
    config = OmegaConf.create({"hydra": {"overrides": {"task": words}}})
    capsys.readouterr()  # the phantom is written
    with pytest.raises(SystemExit) as ended:
        sweep.Summary().on_multirun_end(config)
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[:3] == [
        "  stopped: fusion=none seed=1",
        "  failed: fusion=early seed=0: out of memory",
        "  missing: fusion=early seed=1",
    ]
    for point in points[1:]:
        finish(point)
    sweep.Summary().on_multirun_end(config)
    assert "4 runs: 4 done" in capsys.readouterr().out


def test_the_cost_of_sweeps_follows_from_measured_steps(capsys, monkeypatch):
    monkeypatch.setattr(cost, "_measure", lambda config: (2.0, 0.5))
    status.run(["--cost", "+sweep=table3_heart,table3_spleen", "seed=0", "fusion=early", "n=4"])
    printed = capsys.readouterr().out
    # 1,200 steps of 2 s; 15 validations of 4 and of 7 subjects, a test of 4 and of 9.
    heart, spleen = 2400 + 0.5 * (15 * 4 + 4), 2400 + 0.5 * (15 * 7 + 9)
    assert f"2 runs: about {runs.duration(heart + spleen)}" in printed
    assert "320×320×128" in printed
    assert "256×256×128" in printed


def test_a_measured_step_is_positive_and_independent_of_the_sweep():
    [(_, _, config)] = sweep.configurations(["data.size=[24,24,8]", "fusion=early"])
    step, case = cost._measure(config)
    assert 0 < case < step < 10
