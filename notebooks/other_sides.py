"""What a split by file leaks: networks on the other sides of the people they were trained on.

    python notebooks/other_sides.py runs/hippocampus notebooks/results/other_sides.csv

A run draws n files of its training part, so of most people it has seen one hippocampus and not the
other. That other one is what a split by file would test on. Here every run segments it, and those
of other runs with the same n: the same volume, by networks that knew its person and by some that
did not. Used are all runs below a folder that were trained with the paper's settings.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from tqdm import tqdm

from fdseg.data.cases import Case
from fdseg.data.labels import label_map
from fdseg.data.nifti import read_volume
from fdseg.inference import Predictor, find_device
from fdseg.memory import available_gb
from fdseg.metrics import dice
from fdseg.report.arms import studies
from fdseg.report.collect import collect
from fdseg.report.finished import Run
from fdseg.safety import read_config
from fdseg.trained import read_run

COLUMNS = ("fusion", "n", "seed", "case", "participant", "person_drawn", "dice")


def main(folder: Path, output: Path) -> None:
    """Score the runs below a folder and write a row for each run and volume."""
    found = studies(collect(folder).runs)
    if len(found) != 1:
        raise SystemExit(f"{folder}: runs of {len(found)} tasks. Name the folder of one.")
    (study,) = found
    runs = [
        run
        for arm in study.arms
        if not arm.departures
        for runs in arm.runs.values()
        for run in runs
    ]
    task = instantiate(read_config(runs[0].folder / "config.yaml")["data"])
    training = task.cases(task.subjects.training)
    drawn = {run.folder: task.cases(run.manifest["drawn"]) for run in runs}
    others = {folder: _other_sides(training, cases) for folder, cases in drawn.items()}
    wanted: dict[int, dict[str, Case]] = {}
    for run in runs:
        wanted.setdefault(run.n, {}).update({case.name: case for case in others[run.folder]})
    with output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for run in tqdm(runs, unit="run"):
            cases = [case for case in wanted[run.n].values() if case not in drawn[run.folder]]
            writer.writerows(_rows(run, cases, others[run.folder]))


def _other_sides(training: list[Case], drawn: list[Case]) -> list[Case]:
    """Of the people that were drawn, the cases that were not."""
    people = {case.participant for case in drawn}
    return [case for case in training if case.participant in people and case not in drawn]


def _rows(run: Run, cases: list[Case], others: list[Case]) -> Iterator[tuple[object, ...]]:
    predictor = Predictor(
        [read_run(run.folder)], device=find_device("auto"), memory_gb=available_gb()
    )
    for case in cases:
        score = round(_dice(predictor, case), 6)
        yield run.fusion, run.n, run.seed, case.name, case.participant, case in others, score


def _dice(predictor: Predictor, case: Case) -> float:
    """In the volume's own geometry, mean over structures, as a run tests."""
    (trained,) = predictor.trained
    image, _, geometry = trained.preprocessing(read_volume(case.image))
    values = list(trained.structures.values())
    found = label_map(predictor(image), trained.preprocessing, geometry, values)
    labels = read_volume(case.label).data
    return float(np.mean([dice(found == value, labels == value) for value in values]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
