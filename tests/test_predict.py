"""Predictions of files: equal to the run's own, in any geometry, whole, and only where missing."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import assert_refused, compose, shell, trained
from matplotlib.image import imread
from scipy.spatial.transform import Rotation

from fdseg import inference, predict, predictions
from fdseg.data.labels import label_map
from fdseg.data.nifti import read_volume
from fdseg.errors import FdsegError
from fdseg.trained import read_run

SIZE = (16, 20, 12)


@pytest.fixture(scope="module")
def runs(make_run, tmp_path_factory):
    """Two runs of one task, and one that resizes."""
    root = tmp_path_factory.mktemp("runs")
    return {
        "first": make_run(root / "first", "fusion=early", weights=1),
        "second": make_run(root / "second", weights=2),
        "resize": make_run(root / "resize", "fusion=late", "data.reshape=resize", weights=3),
    }


def predicted(run, volumes, output, *overrides):
    words = [f"run={run}", f"input={volumes}", f"output={output}", "memory_gb=100", *overrides]
    predict.run(compose("predict", *words))
    return output


def random_geometry(rng):
    """An oblique affine with permuted and flipped axes and anisotropic spacing, and its shape."""
    turn = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
    permuted = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ permuted @ np.diag(rng.uniform(0.4, 5, 3))
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine, tuple(rng.integers(5, 30, 3).tolist())


def save(path, seed=0, affine=None, shape=(15, 18, 13), dtype=np.float32):
    """A volume of smooth noise, between −1000 and 1000."""
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=shape).cumsum(0).cumsum(1).cumsum(2)
    voxels *= 1000 / np.abs(voxels).max()
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(dtype), np.eye(4) if affine is None else affine), path)
    return path


def labels(path):
    return np.asarray(nib.load(path).dataobj)


def contents(folder):
    """All files in a folder, but for those in folders of their own."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# The same numbers


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_a_test_subject_is_predicted_as_the_run_itself_did_to_the_byte(reshape, tmp_path):
    words = [
        "data.root=null", "data.phantom.subjects=5", "data.split.training=3", "fusion=early",
        "data.split.validation=1", "data.split.test=2", "n=1", "trainer.max_epochs=4",
        "trainer.accelerator=cpu", f"runs={tmp_path / 'runs'}", f"data.reshape={reshape}",
        "trainer.check_val_every_n_epoch=4", "optimizer.lr=0.01", "data.phantom.scale=0.6",
    ]  # fmt: skip
    run = trained(*words)
    images = next((tmp_path / "runs").rglob("imagesTr"))
    own = contents(run / "predictions")
    assert len(own) == 3
    found = predicted(run, images, tmp_path / "out")
    for name, content in own.items():
        assert (found / name).read_bytes() == content
        assert labels(found / name).any()
    assert len(list(found.glob("*.nii.gz"))) == 8


@pytest.mark.data
def test_a_finished_run_on_real_data_is_predicted_to_the_byte(real_data, tmp_path):
    words = [
        f"data.root={real_data}", "n=4", "fusion=late", "trainer.max_epochs=1", f"runs={tmp_path}",
        "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=6", "trainer.accelerator=cpu",
    ]  # fmt: skip
    run = trained(*words)
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    own = contents(run / "predictions")
    assert len(own) == 6
    for name in own:
        (volumes / name).symlink_to(real_data / "Task04_Hippocampus" / "imagesTr" / name)
    found = contents(predicted(run, volumes, tmp_path / "out"))
    assert {name: found[name] for name in own} == own


@pytest.mark.parametrize("which", ["first", "resize"])
def test_labels_are_those_of_the_networks_probabilities(which, runs, tmp_path):
    path = save(tmp_path / "x.nii.gz", affine=random_geometry(np.random.default_rng(7))[0])
    run = read_run(runs[which])
    image, _, geometry = run.preprocessing(read_volume(path))
    probabilities = inference.Predictor([run], device=inference.torch.device("cpu"), memory_gb=99)
    expected = label_map(probabilities(image), run.preprocessing, geometry, [1, 2])
    np.testing.assert_array_equal(
        labels(predicted(runs[which], path, tmp_path / "out") / "x.nii.gz"), expected
    )


def test_an_ensemble_labels_where_the_mean_of_probabilities_exceeds_one_half(runs, tmp_path):
    path = save(tmp_path / "in" / "x.nii.gz")
    every = {}
    for name, run in (
        ("first", runs["first"]),
        ("second", runs["second"]),
        ("both", f"[{runs['first']},{runs['second']}]"),
    ):
        out = predicted(run, path, tmp_path / name, "probabilities=true")
        with np.load(out / "x_probabilities.npz") as file:
            every[name] = np.stack([file["anterior"], file["posterior"]]).astype(float)
    mean = (every["first"] + every["second"]) / 2
    np.testing.assert_allclose(every["both"], mean, atol=1e-3)
    sure = np.abs(mean - 0.5).min(0) > 1e-3
    sure &= (np.abs(mean[0] - mean[1]) > 1e-3) | (mean.max(0) < 0.5)
    expected = np.where(mean.max(0) > 0.5, mean.argmax(0) + 1, 0)
    found = labels(tmp_path / "both" / "x.nii.gz")
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert sure.mean() > 0.9
    assert len(np.unique(found)) > 1


def test_flips_are_used_and_warned_of_where_training_had_none(runs, tmp_path, capsys):
    path = save(tmp_path / "in" / "x.nii.gz")
    plain = predicted(runs["first"], path, tmp_path / "plain", "probabilities=true")
    assert "warning" not in capsys.readouterr().out
    flipped = predicted(runs["first"], path, tmp_path / "flips", "probabilities=true", "flips=true")
    assert "training mirrored nothing" in capsys.readouterr().out
    with np.load(plain / "x_probabilities.npz") as a, np.load(flipped / "x_probabilities.npz") as b:
        assert np.abs(a["anterior"].astype(float) - b["anterior"]).max() > 0.01


# Geometry


@pytest.mark.parametrize("which", ["first", "resize"])
@pytest.mark.parametrize("seed", range(6))
def test_a_label_map_lies_where_its_volume_lies(which, seed, runs, tmp_path):
    rng = np.random.default_rng(seed)
    affine, shape = random_geometry(rng)
    ending = ("nii", "nii.gz")[seed % 2]
    kind = (nib.Nifti1Image, nib.Nifti2Image)[seed % 3 == 0]
    source = kind(rng.normal(size=shape).astype(np.int16), None)
    source.set_data_dtype((np.int16, np.uint8, np.float64)[seed % 3])
    source.set_qform(affine, int(rng.integers(0, 4)), strip_shears=False)
    source.set_sform(affine, int(rng.integers(0, 4)))
    source = kind(rng.integers(0, 200, shape).astype(np.int16), None, source.header)
    nib.save(source, tmp_path / f"x.{ending}")
    source = nib.load(tmp_path / f"x.{ending}")
    found = nib.load(
        predicted(runs[which], tmp_path / f"x.{ending}", tmp_path / "out") / "x.nii.gz"
    )
    assert found.shape == source.shape
    np.testing.assert_array_equal(found.affine, source.affine)
    for key in ("sform_code", "qform_code", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b"):
        np.testing.assert_array_equal(found.header[key], source.header[key])
    assert found.get_data_dtype() == np.uint8
    assert set(np.unique(labels(tmp_path / "out" / "x.nii.gz"))) <= {0, 1, 2}


@pytest.mark.parametrize("which", ["first", "resize"])
def test_a_volume_stored_in_another_orientation_is_labelled_alike(which, runs, tmp_path):
    rng = np.random.default_rng(3)
    path = save(tmp_path / "in" / "upright.nii.gz", affine=np.diag([0.9, 1.1, 2, 1]))
    upright, turns = nib.load(path), {}
    for name in ("a", "b", "c"):
        turns[name] = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1)
        nib.save(upright.as_reoriented(turns[name]), tmp_path / "in" / f"{name}.nii.gz")
    out = predicted(runs[which], tmp_path / "in", tmp_path / "out")
    expected = nib.load(out / "upright.nii.gz")
    assert labels(out / "upright.nii.gz").any()
    for name, turn in turns.items():
        turned = nib.load(out / f"{name}.nii.gz")
        np.testing.assert_array_equal(
            np.asarray(turned.dataobj), np.asarray(expected.as_reoriented(turn).dataobj)
        )


def test_label_values_are_the_label_files_own(make_run, tmp_path):
    run = make_run(tmp_path / "run", "data.structures.anterior=7", "data.structures.posterior=300")
    path = save(tmp_path / "x.nii.gz")
    out = nib.load(predicted(run, path, tmp_path / "out") / "x.nii.gz")
    assert out.get_data_dtype() == np.uint16
    values = set(np.unique(np.asarray(out.dataobj)))
    assert values <= {0, 7, 300}
    assert len(values) > 1


# Names


@pytest.fixture
def images(tmp_path):
    """A folder of nnU-Net's: two channels of two cases, the second one another volume."""
    for case in (12, 13):
        for channel in (0, 1):
            save(tmp_path / "imagesTs" / f"case_{case:03}_{channel:04}.nii.gz", 10 * case + channel)
    return tmp_path / "imagesTs"


@pytest.mark.parametrize("channel", [0, 1])
def test_of_nnunets_files_those_of_the_trained_channel_are_segmented_under_the_cases_names(
    channel, images, runs, make_run, tmp_path, capsys
):
    run = make_run(tmp_path / "run", f"+data.cohort.channel={channel}", weights=1)
    out = predicted(run, images, tmp_path / "out", "overlays=true")
    left = f"Channel 000{channel} of 2 volumes; 2 files of other channels left out.\n"
    assert left in capsys.readouterr().out
    assert sorted(contents(out)) == [
        "case_012.nii.gz", "case_012.png", "case_013.nii.gz", "case_013.png", "prediction.json",
    ]  # fmt: skip
    for case in (12, 13):
        (tmp_path / "alone").mkdir(exist_ok=True)
        alone = tmp_path / "alone" / f"case_{case:03}.nii.gz"
        shutil.copy(images / f"case_{case:03}_{channel:04}.nii.gz", alone)
        # A volume by any other name is one, too.
        same = predicted(run, alone, tmp_path / f"same{case}") / alone.name
        assert same.read_bytes() == (out / alone.name).read_bytes()
    one = predicted(run, images / f"case_012_{channel:04}.nii.gz", tmp_path / "one")
    assert contents(one)["case_012.nii.gz"] == contents(out)["case_012.nii.gz"]


def test_a_run_on_other_data_keeps_the_names(images, runs, tmp_path):
    out = predicted(runs["first"], images, tmp_path / "out")
    assert {name for name in contents(out) if name.endswith(".gz")} == {*contents(images)}


def test_cases_that_lack_the_channel_are_named_before_anything_is_predicted(
    images, make_run, tmp_path
):
    run = make_run(tmp_path / "run", "+data.cohort.channel=1")
    (images / "case_013_0001.nii.gz").unlink()
    missing = r"on channel 0001, which is missing \(case_013_0001\)\. Add"
    for path in (images, images / "case_013_0000.nii.gz"):
        with pytest.raises(FdsegError, match=missing):
            predicted(run, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_inputs_are_predicted_together(folder, images, runs, tmp_path):
    several = f"[{folder},{images / 'case_012_0000.nii.gz'},{folder / 'b.nii'}]"
    out = predicted(runs["first"], several, tmp_path / "out")
    names = ["a.nii.gz", "b.nii.gz", "c.nii.gz", "case_012_0000.nii.gz", "prediction.json"]
    assert sorted(contents(out)) == names
    save(tmp_path / "more" / "c.nii.gz")
    with pytest.raises(FdsegError, match=r"more/c.nii.gz: .*in/c.nii.gz would .* same name, c.nii"):
        predicted(runs["first"], f"[{folder},{tmp_path}/more]", tmp_path / "out2")


# Files


@pytest.fixture
def folder(tmp_path):
    for name in ("a.nii.gz", "b.nii", "c.nii.gz"):
        save(tmp_path / "in" / name, seed=ord(name[0]))
    (tmp_path / "in" / "notes.txt").write_text("not a volume")
    (tmp_path / "in" / "._a.nii.gz").write_text("what macOS leaves")
    return tmp_path / "in"


def test_a_folder_gives_a_label_map_per_volume_and_a_record(folder, runs, tmp_path):
    out = predicted(runs["first"], folder, tmp_path / "out")
    assert sorted(contents(out)) == ["a.nii.gz", "b.nii.gz", "c.nii.gz", "prediction.json"]
    record = json.loads((out / "prediction.json").read_text())
    assert record["task"] == "hippocampus"
    assert list(record["runs"].values()) == ["first, best"]


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def test_what_is_there_is_skipped_and_what_is_missing_is_done(folder, runs, tmp_path, capsys):
    out = predicted(runs["first"], folder, tmp_path / "out")
    first, before = contents(out), times(out)
    (out / "b.nii.gz").unlink()
    predicted(runs["first"], folder, out)
    assert "2 of 3 are there already; overwrite=true" in capsys.readouterr().out
    assert contents(out) == first
    assert {name for name, time in times(out).items() if time != before[name]} == {"b.nii.gz"}
    predicted(runs["first"], folder, out, "overwrite=true")
    assert contents(out) == first
    assert not [name for name in "abc" if times(out)[f"{name}.nii.gz"] == before[f"{name}.nii.gz"]]


def test_asking_for_more_predicts_again(folder, runs, tmp_path):
    out = predicted(runs["first"], folder, tmp_path / "out")
    predicted(runs["first"], folder, out, "probabilities=true", "overlays=true")
    assert len(contents(out)) == 1 + 3 * 3
    picture = imread(out / "a.png")
    assert min(picture.shape[:2]) > 400
    assert picture[..., :3].std() > 0.1
    with np.load(out / "a_probabilities.npz") as file:
        assert file.files == ["anterior", "posterior"]
        assert file["anterior"].dtype == np.float16
        assert file["anterior"].shape == (15, 18, 13)
        marked = labels(out / "a.nii.gz") == 1
        assert file["anterior"][marked].min() >= 0.5


@pytest.mark.parametrize("shape", [(15, 18, 1), (1, 18, 13), (15, 1, 1)])
def test_a_volume_one_voxel_wide_has_labels_and_a_picture(shape, runs, tmp_path):
    save(tmp_path / "thin.nii.gz", shape=shape)
    out = predicted(runs["first"], tmp_path / "thin.nii.gz", tmp_path / "out", "overlays=true")
    assert labels(out / "thin.nii.gz").shape == shape
    assert (out / "thin.png").is_file()


def test_a_picture_that_fails_costs_no_labels_and_no_other_volume(
    folder, runs, tmp_path, capsys, monkeypatch
):
    out, overlay = tmp_path / "out", predictions.overlay

    def fails(path, **options):
        if path.name == "a.png":
            raise ValueError("no such contour")
        overlay(path, **options)

    monkeypatch.setattr(predictions, "overlay", fails)
    with pytest.warns(UserWarning, match=r"out/a\.png: this picture could not .*no such contour"):
        predicted(runs["first"], folder, out, "overlays=true")
    assert "3 done" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir() if p.suffix != ".json") == [
        "a.nii.gz", "b.nii.gz", "b.png", "c.nii.gz", "c.png", "records",
    ]  # fmt: skip


@pytest.mark.parametrize(("run", "options"), [("second", []), ("first", ["flips=true"])])
def test_other_predictions_are_not_mixed_in(run, options, folder, runs, tmp_path):
    out = predicted(runs["first"], folder, tmp_path / "out")
    before = contents(out)
    with pytest.raises(FdsegError, match=r"holds predictions of other runs or options .*overwrite"):
        predicted(runs[run], folder, out, *options)
    assert contents(out) == before
    predicted(runs[run], folder, out, *options, "overwrite=true")
    assert contents(out) != before


def test_the_volumes_themselves_are_never_replaced(folder, runs):
    before = contents(folder)
    with pytest.raises(FdsegError, match="holds the volumes themselves"):
        predicted(runs["first"], folder, folder, "overwrite=true")
    with pytest.raises(FdsegError, match="holds the volumes themselves"):
        predicted(runs["first"], folder / "a.nii.gz", folder / "." / ".." / "in")
    assert contents(folder) == before


def test_an_output_within_the_input_is_not_taken_for_volumes(folder, runs, capsys):
    out = predicted(runs["first"], folder, folder / "out")
    first = contents(out)
    predicted(runs["first"], folder, out)
    assert "3 of 3 are there already" in capsys.readouterr().out
    assert contents(out) == first
    assert len(first) == 4


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (Path.symlink_to, "holds the volumes themselves"),
        (Path.hardlink_to, r"in/a.nii.gz: is the same file as .*sel/a.nii.gz, which is read, and"),
    ],
)
def test_a_volume_is_not_replaced_by_way_of_a_link(link, words, folder, runs, tmp_path):
    before = contents(folder)
    (tmp_path / "sel").mkdir()
    link(tmp_path / "sel" / "a.nii.gz", folder / "a.nii.gz")
    with pytest.raises(FdsegError, match=words):
        predicted(runs["first"], tmp_path / "sel", folder, "overwrite=true")
    assert contents(folder) == before


def test_two_volumes_of_one_name_are_refused(folder, runs, tmp_path):
    save(folder / "a.nii")
    with pytest.raises(FdsegError, match=r"in/a.nii.gz: .*in/a.nii would .* same name, a.nii.gz"):
        predicted(runs["first"], folder, tmp_path / "out")


@pytest.mark.parametrize("name", ["nowhere", "nowhere.nii.gz"])
def test_an_input_that_is_not_there_is_named(name, runs, tmp_path):
    with pytest.raises(FdsegError, match=rf"{name}: no such file. input=… is"):
        predicted(runs["first"], tmp_path / name, tmp_path / "out")


def test_a_folder_without_volumes_is_named(runs, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(FdsegError, match=r"in: no .nii or .nii.gz file in this folder"):
        predicted(runs["first"], tmp_path / "in", tmp_path / "out")


def test_one_unreadable_volume_is_reported_and_the_rest_is_done(folder, runs, tmp_path):
    save(folder / "cut.nii.gz", shape=(40, 40, 40))
    cut = (folder / "cut.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(cut[: len(cut) // 2])
    (folder / "empty.nii.gz").touch()
    for name, voxels in (
        ("constant", np.full((9, 9, 9), 5.0)),
        ("nan", np.full((9, 9, 9), np.nan)),
        ("wide", np.linspace(-3e38, 3e38, 729).reshape(9, 9, 9)),
        ("series", np.zeros((9, 9, 9, 4))),
    ):
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    with pytest.raises(FdsegError) as caught:
        predicted(runs["first"], folder, tmp_path / "out", "probabilities=true", "overlays=true")
    lines = str(caught.value).split("\n")
    assert lines[0] == "6 of 9 volumes could not be predicted:"
    for line, words in zip(
        lines[1:],
        ("constant.nii.gz: the image is constant, 5", "cut.nii.gz: cut off", "empty.nii.gz: ",
         "nan.nii.gz: 729 voxels are NaN", "series.nii.gz: 4-D", "wide.nii.gz: the voxels lie"),
        strict=True,
    ):  # fmt: skip
        assert words in line
    assert len(contents(tmp_path / "out")) == 1 + 3 * 3


def overflowing(run):
    """A run whose first layer overflows where 27 voxels are bright, and not where one is."""
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["network.stem.weight"].fill_(1e38)
    torch.save(content, path)
    return run


def test_a_volume_of_nan_probabilities_has_no_label_map_and_the_rest_is_done(
    make_run, runs, tmp_path
):
    bright, dark = np.ones((16, 20, 12), np.float32), np.zeros((16, 20, 12), np.float32)
    bright[:4], dark[8, 10, 6] = 0, 1
    for name, voxels in (("a", bright), ("b", dark), ("c", bright)):
        path = tmp_path / "in" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    run = overflowing(make_run(tmp_path / "run"))
    # One network of several that fails is enough: their mean is none either.
    for words in ([str(run)], [f"[{runs['second']},{run}]", "probabilities=true", "overlays=true"]):
        out = tmp_path / f"out{len(words)}"
        with pytest.raises(FdsegError) as caught:
            predicted(words[0], tmp_path / "in", out, *words[1:])
        lines = str(caught.value).split("\n")
        assert lines[0] == "2 of 3 volumes could not be predicted:"
        for line, name in zip(lines[1:], "ac", strict=True):
            start = f"{tmp_path}/in/{name}.nii.gz, by {run}: the network's probabilities are"
            assert line.strip().startswith(start)
        assert "b.nii.gz" in contents(out)
        assert not [name for name in contents(out) if name[0] in "ac"]


def test_a_disk_that_is_full_is_an_error_that_leaves_no_half_file(
    folder, runs, tmp_path, monkeypatch
):
    def write_half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(FdsegError, match=r"out: cannot be written \(No space left on device"):
        predicted(runs["first"], folder, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["prediction.json"]


def test_an_output_that_cannot_be_a_folder_is_named(folder, runs, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(FdsegError, match=r"output=.*out: cannot be written"):
        predicted(runs["first"], folder, tmp_path / "out")


def test_a_volume_beyond_the_budget_is_refused_before_it_is_read(
    folder, runs, tmp_path, monkeypatch
):
    large = nib.Nifti1Image(np.zeros((400, 400, 400), np.uint8), np.eye(4))
    nib.save(large, folder / "b.nii")
    monkeypatch.setattr(predictions, "used_gb", lambda: 0.5)
    read = []
    monkeypatch.setattr(predictions, "read_volume", lambda p: read.append(p.name) or read_volume(p))
    with pytest.raises(
        FdsegError, match=r"b.nii: 400×400×400 voxels take about 2.0 GB, more than mem"
    ):
        predicted(runs["first"], folder, tmp_path / "out", "memory_gb=2")
    assert read == ["a.nii.gz", "c.nii.gz"]


# The command


def test_the_command_says_what_it_does_and_ends_with_a_status(folder, runs, tmp_path):
    (folder / "b.nii").write_bytes(b"broken")
    words = [f"run=[{runs['first']},{runs['second']}]", f"input={folder}", f"output={tmp_path}/out"]
    ended = shell("predict", *words, cwd=tmp_path)
    assert_refused(ended, "b.nii: not a readable NIfTI file")
    assert "hippocampus (anterior, posterior) by the mean of 2 runs" in ended.stdout
    assert "Memory budget (memory_gb): " in ended.stdout
    assert "16×20×12 voxels at once" in ended.stdout
    assert "2 done in " in ended.stdout
    assert "3/3" in ended.stderr
    assert "error: " in ended.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=x"], "input=…, output=…: not given"),
        (["run=r", "input=x", "output=y", "flips=maybe"], "flips=maybe: expected true or false"),
        (["run=r", "input=x", "output=y", "memory_gb=-1"], "memory_gb=-1: expected a number above"),
        (["run=r", "input=x", "output=y", "memory_gb=all"], "memory_gb=all: expected a number"),
        (["run=r", "input=x", "output=y", "device=tpu"], "device=tpu: expected auto, cpu or cuda"),
        (["run=r", "input=x", "output=y", "overwrit=true"], "Did you mean overwrite"),
        (["run=r", "input=FILE", "output=y"], "r: no finished run (no such folder)"),
    ],
)
def test_a_wrong_word_is_refused_with_a_remedy(words, message, tmp_path):
    path = save(tmp_path / "x.nii.gz")
    words = [word.replace("FILE", str(path)) for word in words]
    assert_refused(shell("predict", *words, cwd=tmp_path), message)
