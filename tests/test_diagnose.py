"""Filtered test volumes shown to trained networks: the scores, their table and figures."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from commands import compose, table, trained
from matplotlib.image import imread

from fdseg import diagnose
from fdseg.errors import FdsegError
from fdseg.report.responses import mean_dice, response_curves
from fdseg.trained import read_run

TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.5",
    "data.split.training=4", "data.split.validation=1", "data.split.test=3", "n=2",
    "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu",
    "optimizer.lr=0.01", "theta=0.3", "trainer.precision=32-true",
]  # fmt: skip
CUTOFFS = (0.2, 0.5, 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each kind, on one phantom."""
    root = tmp_path_factory.mktemp("runs")
    folders = {}
    for fusion in ("none", "early"):
        folders[fusion] = trained(*TINY, f"runs={root}", f"fusion={fusion}")
    return folders


def run(folders, *overrides):
    words = [f"run=[{','.join(map(str, folders))}]", f"cutoffs={[*CUTOFFS]}", *overrides]
    diagnose.run(compose("diagnose", *words))


@pytest.fixture(scope="module")
def diagnosed(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("diagnosed")
    run(runs.values(), f"output={output}")
    return output


def dice(folder, rows, kind, cutoff=""):
    """Of one run, by case and structure."""
    return {
        (row["case"], row["structure"]): float(row["dice"])
        for row in rows
        if (row["run"], row["filter"], row["cutoff"]) == (folder, kind, cutoff)
    }


@pytest.mark.parametrize("fusion", ["none", "early"])
def test_whole_volumes_score_what_the_run_itself_found(fusion, runs, diagnosed):
    expected = {
        (row["case"], row["structure"]): float(row["dice"])
        for row in table(runs[fusion] / "cases.csv")
    }
    rows = table(diagnosed / "responses.csv")
    assert dice(fusion, rows, "none") == expected
    assert dice(fusion, rows, "low", "1") == expected
    assert len(rows) == 2 * (1 + 2 * len(CUTOFFS)) * len(expected)


def native_part(geometry, size):
    """Of the network's grid the part that the native volume covers, which was padded or cropped."""
    axes = np.argsort([axis for axis, _ in geometry["orientation"]])
    shape = np.array(geometry["shape"])[axes]
    return tuple(
        slice(max(0, int(o)), min(n, int(o) + length))
        for n, o, length in zip(size, geometry["offset"], shape, strict=True)
    )


@pytest.mark.parametrize("fusion", ["none", "early"])
@pytest.mark.parametrize("kind", ["low", "high"])
def test_filtered_volumes_score_what_an_independent_filter_gives(kind, fusion, runs, diagnosed):
    trained, rows = read_run(runs[fusion]), table(diagnosed / "responses.csv")
    split = json.loads((runs[fusion] / "split.json").read_text())
    cache = runs[fusion].parents[4] / "cache"
    found = {}
    for folder in (cache / "hippocampus").iterdir():
        facts = json.loads((folder / "case.json").read_text())
        if facts["case"] not in split["test"]:
            continue
        image, label = (np.load(folder / f"{name}.npy") for name in ("image", "label"))
        spectrum = np.fft.fftn(image)
        for axis, n in enumerate(image.shape[:2]):
            outside = np.abs(np.fft.fftfreq(n)) > 0.5 / 2
            np.moveaxis(spectrum, axis, 0)[outside] = 0
        low = np.fft.ifftn(spectrum).real
        x = torch.from_numpy((low if kind == "low" else image - low).astype(np.float32))
        probabilities = trained.probabilities(x[None, None])[0].numpy()
        here = native_part(facts["geometry"], image.shape)
        for number, structure in enumerate(trained.structures, start=1):
            one = probabilities[number - 1]
            mask = ((one > 0.5) & (one == probabilities.max(axis=0)))[here]
            target = (label == number)[here]
            overlap = 2 * (mask & target).sum() / (mask.sum() + target.sum())
            found[facts["case"], structure] = overlap
    # Two ways to filter round otherwise, by which a voxel or two may fall to the other side.
    assert dice(fusion, rows, kind, "0.5") == pytest.approx(found, abs=2e-3)
    assert dice(fusion, rows, kind, "0.5") != dice(fusion, rows, "none")


def test_there_are_pictures_of_both_runs(diagnosed):
    names = {path.name for path in diagnosed.iterdir()}
    assert names == {"responses.csv"} | {
        f"{name}.{kind}" for name in ("responses", "spectra") for kind in ("svg", "png")
    }
    for name in ("responses", "spectra"):
        assert imread(diagnosed / f"{name}.png")[..., :3].std() > 0.05
        assert "PHANTOM hippocampus" in (diagnosed / f"{name}.svg").read_text()


def test_a_figure_that_fails_costs_nothing_else(runs, tmp_path, capsys):
    (tmp_path / "responses.svg").mkdir()
    with pytest.warns(UserWarning, match=r"responses\.svg: this picture could not be made"):
        run([runs["none"]], f"output={tmp_path}", "cases=1", "cutoffs=[1]")
    assert len(table(tmp_path / "responses.csv")) == 3 * 2
    assert imread(tmp_path / "spectra.png")[..., :3].std() > 0.05
    assert "half of it: low up to" in capsys.readouterr().out


def test_one_run_keeps_its_diagnosis_in_its_own_folder(runs, tmp_path, capsys):
    folder = shutil.copytree(runs["early"], tmp_path / "run-1a2b3c4d")
    (folder / "spectra.csv").unlink()
    run([folder], "cases=1", "cutoffs=[1]")
    output = folder / "diagnosis"
    assert {path.suffix for path in output.iterdir()} == {".csv", ".svg", ".png"}
    assert len({row["case"] for row in table(output / "responses.csv")}) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("PHANTOM: trained on synthetic data")
    own = json.loads((folder / "result.json").read_text())["test"]["dice"]["mean"]
    assert f"{own:.4f}" in printed


def test_runs_of_the_same_fusion_are_called_by_what_differs(runs, tmp_path):
    other = shutil.copytree(runs["early"], tmp_path / "run-1a2b3c4d")
    same = shutil.copytree(runs["early"], tmp_path / "run-5e6f7a8b")
    result = json.loads((other / "result.json").read_text()) | {"seed": 3}
    (other / "result.json").write_text(json.dumps(result))
    output = tmp_path / "output"
    run([runs["early"], other, same], f"output={output}", "cases=1", "cutoffs=[1]")
    digest = runs["early"].name[-8:]
    expected = {f"early seed=0 {digest}", "early seed=3", "early seed=0 5e6f7a8b"}
    assert {row["run"] for row in table(output / "responses.csv")} == expected


def spoil(folder, change):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["data"].update(root="/nowhere"), r"nowhere.*no such folder"),
        (lambda c: c["data"]["phantom"].update(seed=1), "was trained on other data than"),
        (lambda c: c["data"].update(_target_="fdseg.data.download.Archive"), "data"),
        (lambda c: c["data"].update(_target_="torch.utils.cpp_extension.BuildExtension"),
         "may name classes of"),
        (lambda c: c["data"]["cohort"].update(_target_="os.system"), "may name classes of"),
    ],
)  # fmt: skip
def test_a_run_whose_data_is_another_or_forged_is_refused(change, message, runs, tmp_path):
    folder = shutil.copytree(runs["none"], tmp_path / "run")
    spoil(folder, change)
    with pytest.raises(FdsegError, match=message):
        run([folder])
    assert not (folder / "diagnosis").exists()


def test_the_data_may_have_moved(msd, tmp_path):
    words = ["data=hippocampus", "data.cohort.folder=Task99_Toy", "data.size=[12,16,8]",
             "data.split.training=6", "data.split.validation=2", "data.split.test=2", "n=2",
             "trainer.max_epochs=1", "trainer.accelerator=cpu", "theta=0.4",
             "fusion=early"]  # fmt: skip
    folder = trained(*words, f"data.root={msd.root}", f"runs={tmp_path / 'runs'}")
    msd.root.rename(tmp_path / "moved")
    with pytest.raises(FdsegError, match="no such folder"):
        run([folder])
    run([folder], f"root={tmp_path / 'moved'}", f"cache={tmp_path / 'cache'}")
    assert (folder / "diagnosis" / "responses.csv").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cutoffs=[0,1]"], r"cutoffs=\[0, 1\]: expected numbers in \(0, 1\]"),
        (["cutoffs=[]"], "cutoffs"),
        (["cases=0"], "cases=0: expected a whole number"),
        (["device=tpu"], "device=tpu: expected auto, cpu or cuda"),
        ([], "output: not given"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(words, message, runs):
    with pytest.raises(FdsegError, match=message):
        run(runs.values(), *words)


def rows(values, kind="none", cutoff=None):
    return [
        {"case": case, "filter": kind, "cutoff": cutoff, "structure": s, "dice": value}
        for case, pair in values.items()
        for s, value in zip("ab", pair, strict=True)
    ]


def test_a_point_is_the_mean_over_cases_of_the_mean_over_structures():
    all_rows = [*rows({"x": (0.6, 0.8), "y": (0.4, 0.6)}),
                *rows({"x": (0.1, 0.3), "y": (0.6, 0.8)}, "low", 0.2),
                *rows({"x": (0, 0), "y": (0, 0.4)}, "high", 0.2)]  # fmt: skip
    assert mean_dice(all_rows)["low", 0.2] == pytest.approx([0.2, 0.7])
    drawing = response_curves("responses", "toy", {"early": all_rows}, theta=0.1)
    low, high = drawing.figure.axes
    for axis, mean, sem in ((low, 45, 25), (high, 10, 10)):
        ((line, _, (bars,)),) = axis.containers
        assert line.get_xydata()[0] == pytest.approx([0.2, mean])
        assert bars.get_segments()[0][:, 1] == pytest.approx([mean - sem, mean + sem])
        assert [60, 60] in [list(one.get_ydata()) for one in axis.lines]
        assert [0.1, 0.1] in [list(one.get_xdata()) for one in axis.lines]
    assert "early: 60.0" in drawing.alt


def test_a_figure_does_not_replace_a_file_of_a_run(runs, tmp_path):
    (tmp_path / "responses.png").symlink_to(runs["none"] / "overlays" / "best.png")
    before = (tmp_path / "responses.png").read_bytes()
    with pytest.raises(FdsegError, match=f"responses.png: belongs to the run {runs['none']}, and"):
        run([runs["none"]], f"output={tmp_path}")
    assert (tmp_path / "responses.png").read_bytes() == before


def test_a_case_of_nan_probabilities_is_named_and_nothing_is_written(runs, tmp_path, monkeypatch):
    one = read_run(runs["none"])
    one.network.stem.weight.data.fill_(1e38)  # finite, and each sum of 27 voxels is not
    monkeypatch.setattr("fdseg.trained.read_runs", lambda *_, **__: [one])
    with pytest.raises(FdsegError, match=rf"^hippocampus_\d+, by {one.folder}: .* are not finite"):
        run([runs["none"]], f"output={tmp_path}/out")
    assert not (tmp_path / "out").exists()
