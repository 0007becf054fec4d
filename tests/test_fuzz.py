"""Spoilt files through the commands: a correct result, or an error that names the file.

The subset that runs here has a fixed seed. All of it, 300 inputs for every command:

    FDSEG_FUZZ=300 python -m pytest tests/test_fuzz.py
"""

import contextlib
import copy
import functools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commands import compose, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS, SPOILS

from fdseg import evaluate, predict, prepare
from fdseg.errors import FdsegError
from fdseg.trained import read_runs

EXAMPLES = int(os.environ.get("FDSEG_FUZZ", "20"))
LIMIT_S = 30
SIZE = (12, 14, 8)
AFFINE = np.array([[-0.8, 0, 0.1, 40], [0, 1.1, 0, -25], [0.1, 0, 1.5, 7], [0, 0, 0, 1]])
NAMES = ("toy_1", "toy_2", "toy_3", "toy_4")
STRUCTURES = {"anterior": 1, "posterior": 2}


def write_cohort(folder: Path, ending: str) -> None:
    """Four small cases, and predictions for them that are not quite right."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        label = np.zeros((10, 13, 8), np.uint8)
        label[2:5, 3:8, 2:6], label[5:8, 4:9, 1:5] = 1, 2
        image = (100 * label + rng.normal(50, 10, label.shape)).astype(np.float32)
        volumes = {"imagesTr": image, "labelsTr": label, "predictions": np.roll(label, 1, axis=1)}
        for kind, voxels in volumes.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, AFFINE), folder / kind / f"{name}{ending}")
    entries = [{"image": f"imagesTr/{n}{ending}", "label": f"labelsTr/{n}{ending}"} for n in NAMES]
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))


composed = functools.cache(compose)


def volume(path):
    """A file as nibabel alone reads it."""
    image = nib.load(path)
    return image.get_fdata().reshape(image.shape[:3]), image.affine


def on_grid(data, affine):
    """A volume in canonical orientation on the grid, its centre in the centre."""
    data = nib.orientations.apply_orientation(data, nib.io_orientation(affine))
    for axis, size in enumerate(SIZE):
        more = size - data.shape[axis]
        before, after = -(-abs(more) // 2), abs(more) // 2
        if more >= 0:
            data = np.pad(data, [(before, after) if a == axis else (0, 0) for a in range(3)])
        else:
            data = np.take(data, range(before, data.shape[axis] - after), axis)
    return data


# The commands: what each is given, what it does, and what is true of its output


def run_prepare(place):
    config = copy.deepcopy(
        composed(
            "prepare", "data=hippocampus", "data.cohort.participant=null",
            "data.cohort.folder=cohort", f"data.size={list(SIZE)}",
        )
    )  # fmt: skip
    config.data.root, config.runs = str(place), str(place / "runs")
    prepare.run(config)


def check_prepare(place):
    rows = table(place / "runs" / "hippocampus" / "cohort" / "cohort.csv")
    assert [row["case"] for row in rows] == list(NAMES)
    cached = {}
    for folder in (place / "runs" / "cache" / "hippocampus").iterdir():
        cached[json.loads((folder / "case.json").read_text())["case"]] = folder
    assert sorted(cached) == sorted(NAMES)
    for name, folder in cached.items():
        image, label = (volume(next((place / "cohort" / kind).glob(f"{name}.*")))
                        for kind in ("imagesTr", "labelsTr"))  # fmt: skip
        lowest, highest = image[0].min(), image[0].max()
        scaled = on_grid((image[0] - lowest) / (highest - lowest), image[1])
        np.testing.assert_allclose(np.load(folder / "image.npy"), scaled, atol=1e-5)
        np.testing.assert_array_equal(np.load(folder / "label.npy"), on_grid(label[0], image[1]))


def run_evaluate(place):
    config = copy.deepcopy(composed("evaluate", "predictions=x", "labels=x"))
    config.predictions, config.labels = (
        str(place / "cohort" / kind) for kind in ("predictions", "labelsTr")
    )
    config.structures = STRUCTURES
    evaluate.run(config)


def check_evaluate(place):
    rows = table(place / "cohort" / "predictions" / "evaluation.csv")
    folders = [place / "cohort" / kind for kind in ("predictions", "labelsTr")]
    names = [{p.name.split(".")[0] for p in folder.glob("*.nii*")} for folder in folders]
    assert {row["case"] for row in rows} == names[0] & names[1]
    assert len(rows) == len(names[0] & names[1]) * len(STRUCTURES)
    for row in rows:
        prediction, label = (volume(next(f.glob(f"{row['case']}.*"))) for f in folders)
        assert prediction[0].shape == label[0].shape
        np.testing.assert_allclose(prediction[1], label[1], atol=0.1)
        masks = [data == STRUCTURES[row["structure"]] for data, _ in (prediction, label)]
        sizes = sum(mask.sum() for mask in masks)
        dice = 2 * (masks[0] & masks[1]).sum() / sizes if sizes else 1
        assert float(row["dice"]) == pytest.approx(dice)
        voxel_ml = np.prod(nib.affines.voxel_sizes(prediction[1])) / 1000
        assert float(row["label_ml"]) == pytest.approx(masks[1].sum() * voxel_ml)


def run_predict(place):
    config = copy.deepcopy(composed("predict", "run=x", "input=x", "output=x", "memory_gb=100"))
    config.run, config.output = str(place / "run"), str(place / "out")
    config.input = str(place / "cohort" / "imagesTr")
    predict.run(config)


def check_predictions(place):
    """All that are there are those of the network, in the geometry of their volumes."""
    (trained,) = read_runs([place / "run"])
    for path in (place / "out").glob("*.nii.gz"):
        prediction = nib.load(path)
        source = next((place / "cohort" / "imagesTr").glob(f"{path.name.split('.')[0]}.*"))
        data, affine = volume(source)
        np.testing.assert_array_equal(prediction.affine, nib.load(source).affine)
        scaled = on_grid((data - data.min()) / np.ptp(data), affine).astype(np.float32)
        probabilities = trained.probabilities(torch.from_numpy(scaled.copy())[None, None])[0]
        likeliest = np.where(probabilities.amax(0) > 0.5, 1 + probabilities.argmax(0), 0)
        labels = np.asarray(prediction.dataobj)
        assert labels.shape == data.shape
        inside = on_grid(np.ones_like(data), affine)
        found = on_grid(labels, affine)
        assert np.mean(found == inside * likeliest) > 0.995  # probabilities near one half
        assert np.count_nonzero(labels) == np.count_nonzero(found)  # and nothing beyond the grid


def check_predict(place):
    check_predictions(place)
    names = [{path.name.split(".")[0] for path in folder.glob("*.nii*")}
             for folder in (place / "cohort" / "imagesTr", place / "out")]  # fmt: skip
    assert names[0] == names[1]


def nothing_at(*paths):
    def refused(place):
        assert not [path for path in paths if (place / path).exists()]

    return refused


@dataclass(frozen=True)
class Command:
    """A command under test.

    Attributes:
        reads: the folders of the cohort from which it reads.
        run: it, on the cohort and the trained run of a place.
        check: after it ended well, that what it wrote is right, by other means.
        refused: after an error, that nothing wrong is left.
    """

    reads: tuple[str, ...]
    run: Callable[[Path], None]
    check: Callable[[Path], None]
    refused: Callable[[Path], None]


COMMANDS = {
    "prepare": Command(
        ("imagesTr", "labelsTr"), run_prepare, check_prepare, nothing_at("runs/hippocampus")
    ),
    "evaluate": Command(
        ("predictions", "labelsTr"),
        run_evaluate,
        check_evaluate,
        nothing_at("cohort/predictions/evaluation.csv"),
    ),
    "predict": Command(("imagesTr", "imagesTr"), run_predict, check_predict, check_predictions),
}


@contextlib.contextmanager
def at_most(seconds):
    def stop(*_):
        raise TimeoutError(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@functools.cache
def template(ending):
    folder = Path(tempfile.mkdtemp(prefix="fdseg-fuzz-"))
    write_cohort(folder, ending)
    return folder


@pytest.fixture(scope="module")
def trained_run(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), f"data.size={list(SIZE)}")


def fuzz(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("name", COMMANDS)
@fuzz(EXAMPLES)
@given(
    mutations=st.lists(MUTATIONS, min_size=1, max_size=2),
    which=st.tuples(st.integers(0, 1), st.integers(0, 3)),
    other=st.tuples(st.integers(0, 1), st.integers(0, 3)),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_a_spoilt_file_ends_in_a_right_result_or_in_an_error_that_names_it(
    name, mutations, which, other, ending, trained_run, capsys
):
    command = COMMANDS[name]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(template(ending), place / "cohort")
        (place / "run").symlink_to(trained_run)
        spoilt, second = (
            place / "cohort" / command.reads[kind] / f"{NAMES[number]}{ending}"
            for kind, number in (which, other)
        )
        for mutation in mutations:
            with contextlib.suppress(Exception):  # what is spoilt already cannot always be again
                if not spoilt.is_fifo():  # a pipe would wait for who writes to it
                    mutation(spoilt, second)
        capsys.readouterr()
        try:
            with at_most(LIMIT_S):
                command.run(place)
        except FdsegError as error:
            said = str(error) + capsys.readouterr().out
            assert any(path.name.removesuffix(ending) in said for path in (spoilt, second)), said
            command.refused(place)
        else:
            command.check(place)
        assert not [p for p in place.rglob(".*") if "partial" in p.name]


@fuzz(max(1, EXAMPLES // 3))
@given(mutation=SPOILS)
def test_a_spoilt_listing_ends_in_a_right_result_or_in_an_error_that_names_what_it_lacks(mutation):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        shutil.copytree(template(".nii.gz"), place / "cohort")
        mutation(place / "cohort" / "dataset.json", place)
        try:
            with at_most(LIMIT_S):
                run_prepare(place)
        except FdsegError as error:
            said = str(error)
            assert any(words in said for words in ("dataset.json", "cannot be used")), said
            assert not (place / "runs" / "hippocampus").exists()
        else:
            check_prepare(place)
