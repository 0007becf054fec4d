"""What the table of errors by frequency costs, beside the training between two validations.

Run with `pytest tests/benchmarks/test_spectra_benchmark.py -s -o addopts=`.
"""

from types import SimpleNamespace

import pytest
import torch
from commands import compose
from sizes import at_full_size, sized
from test_step_benchmark import training_step

from fdseg.callbacks import Spectra

# Grid and structures of a task with small volumes and of one with large ones.
TASKS = {
    "hippocampus": (sized((56, 56, 40), (24, 24, 12)), 2),
    "red_nucleus": (sized((160, 160, 128), (24, 24, 16)), 1),
}


@pytest.mark.parametrize("task", TASKS)
def test_the_table_costs_at_most_three_percent_of_training(task, medians, tmp_path, benchmark):
    size, structures = TASKS[task]
    config = compose("train", f"data={task}")
    settings = config.callbacks.spectra
    spectra = Spectra(tmp_path / "spectra.csv", settings.cases, settings.bands)
    trainer = SimpleNamespace(
        world_size=1, sanity_checking=False, global_step=1, is_global_zero=True
    )
    masks = torch.rand(2, 1, structures, *size) > 0.9

    def validate():
        spectra.on_validation_epoch_start(trainer, None)
        for case in range(settings.cases):
            batch = {"case": torch.tensor([case])}
            outputs = {"prediction": masks[0], "target": masks[1]}
            spectra.on_validation_batch_end(trainer, None, outputs, batch, case)
        spectra.on_validation_epoch_end(trainer, None)
        spectra.on_train_epoch_end(trainer, None)

    sides = {"step": training_step("none", size), "table": validate}
    seconds = medians(sides, rounds=sized(15 if task == "hippocampus" else 2, 1), warmup=1)
    steps = config.trainer.check_val_every_n_epoch * config.n  # between two validations, no fewer
    ratio = seconds["table"] / (steps * seconds["step"])
    print(f"\n{task}: table {seconds['table']:.3f} s, step {seconds['step']:.3f} s, "
          f"{100 * ratio:.2f} % of {steps} steps")  # fmt: skip
    benchmark.pedantic(validate, rounds=1)
    at_full_size(ratio <= 0.03)
