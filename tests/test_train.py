"""The main job from beginning to end, on a small phantom cohort."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import compose, table, trained
from matplotlib.image import imread

from fdseg import evaluate, metrics, runs, train
from fdseg.callbacks import History
from fdseg.errors import FdsegError
from fdseg.module import SegmentationModule

SMALL = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "n=2",
    "data.split.training=6", "data.split.validation=2", "data.split.test=4",
    "trainer.max_epochs=3", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu",
]  # fmt: skip


def run(cohort, where, *overrides):
    return trained(*SMALL, f"data.cache={cohort}", f"runs={where}", *overrides)


@pytest.fixture(scope="module")
def folder(cohort, tmp_path_factory):
    """A finished run with early fusion and all loggers."""
    return run(cohort, tmp_path_factory.mktemp("runs"), "fusion=early", "logger=all")


def test_a_run_leaves_what_is_needed_later(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml", "history.csv", "cases.csv", "result.json", "manifest.json", "split.json",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt",
        "overlays/best.png", "overlays/median.png", "overlays/worst.png",
    }  # fmt: skip


def test_the_history_has_a_row_per_epoch(folder):
    rows = table(folder / "history.csv")
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert all(0 < float(row["train_loss"]) < 1.01 for row in rows)
    assert all(0 <= float(row["validation_dice"]) <= 1 for row in rows)


def test_scores_are_those_of_the_kept_predictions_in_native_geometry(folder, cohort):
    rows = table(folder / "cases.csv")
    assert len(rows) == 4 * 2
    root = next(cohort.glob("phantom/*/Task04_Hippocampus"))
    for row in rows:
        prediction = nib.load(folder / "predictions" / f"{row['case']}.nii.gz")
        label = nib.load(root / "labelsTr" / f"{row['case']}.nii.gz")
        assert prediction.shape == label.shape
        assert np.array_equal(prediction.affine, label.affine)
        value = {"anterior": 1, "posterior": 2}[row["structure"]]
        masks = [np.asarray(image.dataobj) == value for image in (prediction, label)]
        spacing = label.header.get_zooms()
        assert float(row["dice"]) == metrics.dice(*masks)
        assert float(row["hd95_mm"]) == pytest.approx(metrics.hd95(*masks, spacing), rel=1e-6)


def test_evaluating_a_runs_predictions_gives_its_own_scores_to_the_last_digit(
    folder, cohort, tmp_path
):
    labels = next(cohort.glob("phantom/*/Task04_Hippocampus")) / "labelsTr"
    words = [
        f"predictions={folder / 'predictions'}", f"labels={labels}",
        f"output={tmp_path / 'table.csv'}", "structures={anterior: 1, posterior: 2}",
    ]  # fmt: skip
    evaluate.run(compose("evaluate", *words))
    own = {(row["case"], row["structure"]): row for row in table(folder / "cases.csv")}
    found = table(tmp_path / "table.csv")
    assert len(found) == len(own)
    for row in found:
        expected = own[row["case"], row["structure"]]
        for theirs, ours in (("dice", "dice"), ("hd95_mm", "hd95_pooled_mm"), ("nsd", "nsd"),
                             ("missed", "missed")):  # fmt: skip
            assert row[ours] == expected[theirs]
        for which in ("prediction", "label"):
            assert float(row[f"{which}_ml"]) == float(expected[f"{which}_mm3"]) / 1000


def test_the_result_summarises_the_cases(folder):
    result = json.loads((folder / "result.json").read_text())
    cases = {}
    for row in table(folder / "cases.csv"):
        cases.setdefault(row["case"], []).append(float(row["dice"]))
    means = [np.mean(dice) for dice in cases.values()]
    assert result["test"]["dice"]["mean"] == pytest.approx(np.mean(means))
    assert result["test"]["dice"]["sem"] == pytest.approx(np.std(means, ddof=1) / 2)
    best = max(float(row["validation_dice"]) for row in table(folder / "history.csv"))
    assert result["validation"]["dice"] == pytest.approx(best)


def test_a_phantoms_result_never_looks_real(folder):
    assert json.loads((folder / "result.json").read_text())["phantom"] is True
    assert json.loads((folder / "manifest.json").read_text())["phantom"]["subjects"] == 8
    assert "hippocampus-phantom" in folder.parts


def test_overlays_are_pictures_with_something_in_them(folder):
    for path in (folder / "overlays").glob("*.png"):
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 500
        assert pixels[..., :3].std() > 0.1


def test_checkpoints_hold_tensors_and_plain_values_only(folder):
    for path in (folder / "checkpoints").glob("*.ckpt"):
        assert "state_dict" in torch.load(path, weights_only=True)


def test_tensorboard_has_the_scalars_and_the_pictures(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert len(events.Scalars("train/loss")) == 3
    dice = json.loads((folder / "result.json").read_text())["test"]["dice"]["mean"]
    assert events.Scalars("test/dice")[-1].value == pytest.approx(dice)
    names = {f"overlays/{rank}" for rank in ("best", "median", "worst")} | {"spectra/error"}
    assert set(events.Tags()["images"]) == names


def test_wandb_keeps_the_run_offline_with_what_a_dashboard_groups_by(folder):
    kept = next((folder / "wandb").glob("offline-run-*"))
    raw = next(kept.glob("*.wandb")).read_bytes()
    for text in (b"hippocampus-phantom-n2", b"early", b"validation/dice", b"test/dice"):
        assert text in raw
    media = [path.name for path in (kept / "files" / "media").rglob("*.*")]
    assert sum(name.endswith(".png") for name in media) == 4
    assert sum(name.endswith(".table.json") for name in media) == 1


def test_a_finished_run_prints_its_result_and_trains_nothing(folder, cohort, capsys):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = run(cohort, folder.parents[4], "fusion=early", "logger=csv")
    assert again == folder
    assert "4 test subjects" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_a_result_that_is_not_whole_is_made_again_even_where_pictures_fail(folder, cohort):
    files = {name: (folder / name).read_bytes() for name in ("result.json", "history.csv")}
    best = folder / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    broken = json.loads(files["result.json"]) | {"validation": None}
    (folder / "result.json").write_text(json.dumps(broken))
    (folder / "overlays").rename(folder / "kept")
    (folder / "overlays").write_text("no picture can be written here")
    message = "result.json is not whole: validation cannot be null; the run is not done and goes on"
    with pytest.warns(UserWarning, match=message) as caught:
        again = run(cohort, folder.parents[4], "fusion=early", "logger=csv")
    (folder / "overlays").unlink()
    (folder / "kept").rename(folder / "overlays")
    said = [str(one.message) for one in caught]
    for rank in ("worst", "median", "best"):
        expected = f"{rank}.png: this picture could not be made (File exists)."
        assert sum(expected in one for one in said) == 1
    assert again == folder
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert best.read_bytes() == before


def test_fusions_get_the_same_draw_and_split(folder, cohort):
    other = run(cohort, folder.parents[4], "fusion=none", "checkpoint=last")
    manifests = [json.loads((f / "manifest.json").read_text()) for f in (folder, other)]
    assert manifests[0]["drawn"] == manifests[1]["drawn"]
    assert (folder / "split.json").read_text() == (other / "split.json").read_text()


def test_a_learned_width_is_in_history_and_result_and_goes_on_after_a_stop(
    cohort, folder, tmp_path, monkeypatch
):
    words = ["fusion=early", "split=learnable", "data.phantom.scale=0.3",
             "callbacks.last.every_n_epochs=1"]  # fmt: skip
    whole = run(cohort, tmp_path / "whole", *words)

    def second_epoch_fails(self, trainer, module, go_on=History.on_train_epoch_end):
        if trainer.current_epoch == 1:
            raise RuntimeError("struck by lightning")
        go_on(self, trainer, module)

    monkeypatch.setattr(History, "on_train_epoch_end", second_epoch_fails)
    with pytest.raises(RuntimeError, match="struck"):
        run(cohort, tmp_path / "stopped", *words)
    monkeypatch.undo()
    assert len(list((tmp_path / "stopped").rglob("last.ckpt"))) == 1
    resumed = run(cohort, tmp_path / "stopped", *words)

    courses = [[row["theta"] for row in table(f / "history.csv")] for f in (whole, resumed)]
    assert courses[0] == courses[1]
    assert len({"0.1", *courses[0]}) == 4
    states = [torch.load(whole / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
              for name in ("best", "last")]  # fmt: skip
    best, last = (state["network.split.theta"].item() for state in states)
    assert float(courses[0][-1]) == last
    assert json.loads((whole / "result.json").read_text())["learned_theta"] == best
    assert "theta" not in table(folder / "history.csv")[0]
    assert "learned_theta" not in json.loads((folder / "result.json").read_text())


def test_the_first_words_and_last_words_of_a_run(cohort, tmp_path, capsys):
    train._say.cache_clear()  # what the runs of a process have in common is said once
    run(cohort, tmp_path)
    printed = capsys.readouterr()
    assert printed.out.startswith("*" * 78 + "\n* PHANTOM COHORT")
    assert "First epoch:" in printed.out
    assert "PHANTOM hippocampus, unet, fusion none, n=2, seed 0: 4 test subjects" in printed.out
    assert "anterior" in printed.out
    assert "posterior" in printed.out


@pytest.mark.data
def test_the_real_hippocampus_is_read_split_and_prepared(tmp_path):
    if not os.environ.get("FDSEG_DATA"):
        pytest.skip("FDSEG_DATA is unset")
    folder = run(tmp_path / "cache", tmp_path, f"data.root={os.environ['FDSEG_DATA']}",
                 "data.split.training=166", "data.split.validation=42", "data.split.test=52",
                 "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=3",
                 "trainer.max_epochs=1")  # fmt: skip
    parts = json.loads((folder / "split.json").read_text())
    assert [len(parts[p]) for p in ("training", "validation", "test")] == [166, 42, 52]
    assert "hippocampus-phantom" not in folder.parts
    assert len(table(folder / "cases.csv")) == 6


# A network that overflows


def test_a_validation_case_of_nan_probabilities_ends_the_run(cohort, tmp_path):
    # One step so long that the weights are finite, and what they are multiplied with is not.
    words = ["n=1", "trainer.max_epochs=1", "optimizer.lr=2e37", "trainer.precision=32-true"]
    with pytest.raises(FdsegError, match=r"^hippocampus_\d+: the network's probabilities are "):
        run(cohort, tmp_path, *words)
    folder = next(tmp_path.rglob("failure.json")).parent
    assert runs.state(folder).name == "failed"
    assert not (folder / "checkpoints" / "best.ckpt").exists()


def test_a_test_case_of_nan_probabilities_ends_the_run_without_a_result(
    cohort, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        SegmentationModule,
        "on_test_start",
        lambda self: self.network.stem.weight.data.fill_(1e38),
        raising=False,
    )
    words = ["n=1", "trainer.max_epochs=1", "trainer.precision=32-true"]
    with pytest.raises(FdsegError, match=r"^hippocampus_\d+: the network's probabilities are "):
        run(cohort, tmp_path, *words)
    folder = next(tmp_path.rglob("failure.json")).parent
    assert not (folder / "result.json").exists()
    assert not [*folder.glob("predictions/*")]
