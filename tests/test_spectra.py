"""The table of errors by frequency: right, and without a trace in the run that it watches."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import compose, table
from hydra.utils import instantiate

from fdseg import train
from fdseg.callbacks import Spectra
from fdseg.data.datamodule import SegmentationData
from fdseg.sweep import make_module

TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.6",
    "data.split.training=3", "data.split.validation=3", "data.split.test=2", "n=3",
    "trainer.max_epochs=6", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu",
    "fusion=early", "optimizer.lr=0.01", "trainer.precision=32-true",
]  # fmt: skip


def run(cohort, where, *overrides):
    config = compose("train", *TINY, f"data.cache={cohort}", f"runs={where}", *overrides)
    train.run(config)
    return config


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    return run(cohort, tmp_path_factory.mktemp("runs"), "callbacks.spectra.cases=2")


def errors_of(folder):
    return table(Path(folder) / "spectra.csv")


def test_there_is_a_row_for_every_validation_and_band(finished):
    rows = errors_of(finished.folder)
    found = [(int(row["step"]), int(row["band"])) for row in rows]
    assert found == [(step, band) for step in (6, 12, 18) for band in range(10)]
    assert [float(row["lower"]) for row in rows[:10]] == [band / 10 for band in range(10)]
    assert float(rows[9]["upper"]) == 2**0.5


def test_errors_are_those_of_the_networks_masks_of_the_first_validation_cases(finished):
    task = instantiate(finished.data, _convert_="all")
    data = SegmentationData(task, finished.n, finished.seed)
    data.setup()
    module = make_module(finished, len(task.structures)).eval()
    checkpoint = Path(finished.folder) / "checkpoints/last.ckpt"
    module.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    module.network.to(memory_format=torch.channels_last_3d)  # as in training
    wrong, right = np.zeros(10), np.zeros(10)
    for item in (data.validation[0], data.validation[1]):
        with torch.inference_mode():
            probabilities = module(item["image"][None])[0].numpy()
        for number, one in enumerate(probabilities, start=1):
            mask = (one > 0.5) & (one == probabilities.max(axis=0))
            target = (item["label"] == number).numpy()
            for z in range(mask.shape[2]):
                for sums, plane in (
                    (wrong, mask[..., z] * 1.0 - target[..., z]),
                    (right, target[..., z]),
                ):
                    power = abs(np.fft.fft2(plane)) ** 2
                    r = np.hypot(*np.meshgrid(*(2 * np.fft.fftfreq(n) for n in plane.shape),
                                              indexing="ij"))  # fmt: skip
                    band = np.clip(np.ceil(r * 10 - 1e-9), 1, 10).astype(int) - 1
                    sums += np.bincount(band.ravel(), power.ravel(), minlength=10)
    expected = np.divide(wrong, right, where=right > 0, out=np.full(10, np.nan))
    errors = [float(row["error"] or "nan") for row in errors_of(finished.folder)[-10:]]
    np.testing.assert_allclose(errors, expected, rtol=1e-4)
    assert np.nanmax(np.abs(np.array(errors) - 1)) > 0.01  # it has learned something


def state(folder):
    content = torch.load(Path(folder) / "checkpoints/last.ckpt", weights_only=True)
    return content["state_dict"], content["optimizer_states"][0]["state"]


def test_a_run_without_the_table_has_the_same_bits_and_the_same_name(finished, cohort, tmp_path):
    other = run(cohort, tmp_path, "~callbacks.spectra")
    assert Path(other.folder).name == Path(finished.folder).name
    assert not (Path(other.folder) / "spectra.csv").exists()
    torch.testing.assert_close(state(other.folder), state(finished.folder), rtol=0, atol=0)
    for name in ("cases.csv", "result.json"):
        texts = {(Path(c.folder) / name).read_text() for c in (other, finished)}
        assert len(texts) == 1
    histories = [(Path(c.folder) / "history.csv").read_text() for c in (other, finished)]
    without_seconds = [[r.rpartition(",")[0] for r in h.splitlines()] for h in histories]
    assert without_seconds[0] == without_seconds[1]


def validate(spectra, masks, world=1, sanity=False):
    """What Lightning calls in a validation of pairs of masks, one case a batch."""
    trainer = SimpleNamespace(
        world_size=world, sanity_checking=sanity, global_step=5, is_global_zero=True
    )
    spectra.on_validation_epoch_start(trainer, None)
    for case, (prediction, target) in enumerate(masks):
        outputs = {"prediction": prediction[None], "target": target[None]}
        spectra.on_validation_batch_end(trainer, None, outputs, {"case": torch.tensor([case])}, 0)
    spectra.on_validation_epoch_end(trainer, None)
    spectra.on_train_epoch_end(trainer, None)


def random_masks(cases):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 2, 12, 8, 4, generator=generator).gt(0.6).unbind() for _ in range(cases)]


def test_only_the_chosen_cases_count_and_fewer_are_enough(tmp_path):
    tables = []
    for cases, masks in ((2, random_masks(5)), (2, random_masks(2)), (9, random_masks(2))):
        validate(Spectra(tmp_path / "spectra.csv", cases, 3), masks)
        tables.append((tmp_path / "spectra.csv").read_text())
    assert tables[0] == tables[1] == tables[2]


def test_a_band_without_energy_in_the_target_has_no_error(tmp_path):
    nothing = torch.zeros(1, 12, 8, 4, dtype=torch.bool)
    validate(Spectra(tmp_path / "spectra.csv", 2, 3), [(~nothing, nothing)])
    assert [row["error"] for row in errors_of(tmp_path)] == ["", "", ""]


def test_a_sanity_check_leaves_no_rows(tmp_path):
    validate(Spectra(tmp_path / "spectra.csv"), random_masks(2), sanity=True)
    assert not list(tmp_path.iterdir())
