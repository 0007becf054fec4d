"""Folders of runs as `fdseg.train` leaves them, with scores drawn from a model that is known."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from commands import compose
from omegaconf import OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.report.paper import FUSIONS, PAPER

SUBJECTS = {"red_nucleus": 16, "dentate_nucleus": 14, "spleen": 9, "heart": 4, "hippocampus": 52}
_SCORES = {
    "dice": {"mean": 0.8, "sem": 0.01}, "hd95_mm": {"mean": 3.0, "sem": 0.2},
    "nsd": {"mean": 0.9, "sem": 0.01},
}  # fmt: skip
#: What fdseg.train leaves in result.json.
RESULT = {
    "task": "heart", "phantom": False, "backbone": "unet", "fusion": "none", "n": 4, "seed": 0,
    "theta": 0.1, "checkpoint": "best", "validation": {"dice": 0.7},
    "test": {"subjects": 4, "missed": 0, **_SCORES, "structures": {"left_atrium": _SCORES}},
}  # fmt: skip
#: As conf/report.yaml declares it.
FAMILY = (("red_nucleus", "dentate_nucleus"), ("spleen",), ("heart",), ("hippocampus",))
RESIDUAL, SEEDS = 0.02, 0.01  # standard deviations of Dice, of a run's subject and of a seed


@dataclass
class Grid:
    """Runs of one task; each call writes some more.

    A subject's Dice is the cell's mean, what the subject is off in every arm, what a seed is off
    for every subject, and noise. The mean, and the subjects' spread, are the paper's.
    """

    root: Path
    task: str = "hippocampus"
    phantom: bool = False
    epochs: int = 20
    pictures: Sequence[Path] = ()
    written: list[Path] = field(default_factory=list)

    def add(self, fusion="none", n=4, seed=0, *overrides, dice=None, subjects=None) -> Path:
        """Write a run; `dice` and `subjects` where they should not be the paper's."""
        config = self._config(fusion, overrides)
        fingerprint = f"{self.task}-{config['data']['split']['by']}-{self.phantom}"
        science = configuration.scientific({**config, "n": n, "seed": seed})
        folder = runs.run_folder(
            self.root, task=self.task + "-phantom" * self.phantom, n=n, seed=seed, fusion=fusion,
            backbone=config["backbone"]["name"],
            digest=runs.identity({**science, "fingerprint": fingerprint}),
        )  # fmt: skip
        config |= {"n": n, "seed": seed, "folder": str(folder)}
        rows = self._rows(list(config["data"]["structures"]), fusion, n, seed, dice, subjects)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.dump(config, Dumper=yaml.CSafeDumper))
        _csv(folder / "cases.csv", rows)
        _csv(folder / "history.csv", self._history(rows[0]["dice"], seed))
        manifest = {
            "finished": f"2026-01-{seed % 28 + 1:02}T12:00:00+00:00",
            "command": ["train.py", f"fusion={fusion}", f"n={n}", f"seed={seed}", *overrides],
            "phantom": {"seed": 0} if self.phantom else None,
            "fingerprint": fingerprint, "drawn": [], "left_out": {}, "parameters": 213736,
            "device": "cpu", "threads": 1, "peak_memory_mb": {"process": 900},
            "seconds": {"preparation": 4.0, "training": 400.0 + seed, "test": 20.0},
            "versions": {"python": "3.11.7", "fdseg": "0.1.0", "torch": "2.13.0"},
            "system": "Linux x86_64, 2 CPUs", "git": {"commit": "0123abcd" * 5, "changed": False},
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest))
        for picture in self.pictures:
            (folder / "overlays").mkdir(exist_ok=True)
            os.link(picture, folder / "overlays" / picture.name)
        result = {
            "task": self.task, "phantom": self.phantom, "backbone": config["backbone"]["name"],
            "fusion": fusion, "n": n, "seed": seed, "theta": config["theta"],
            "checkpoint": "best", "validation": {"dice": 0.7}, "test": runs.summarise(rows),
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
        self.written.append(folder)
        return folder

    def cell(self, fusion, n, seeds, *overrides, **options) -> list[Path]:
        """Several seeds."""
        return [self.add(fusion, n, seed, *overrides, **options) for seed in range(seeds)]

    def _config(self, fusion, overrides):
        root = "null" if self.phantom else "/data"
        words = (f"data={self.task}", f"data.root={root}", f"fusion={fusion}", "runs=/runs")
        return json.loads(_compose((*words, *overrides)))

    def _rows(self, structures, fusion, n, seed, dice, subjects):
        papers = fusion if fusion in FUSIONS else "none"
        cell = PAPER.get((self.task, n, papers)) or PAPER["heart", 4, papers]
        count = subjects or SUBJECTS.get(self.task, 10)
        subject = np.random.default_rng(len(self.task)).normal(size=count)
        own = np.random.default_rng([n, ord(fusion[0])]).normal(size=count)
        noise = np.random.default_rng([n, ord(fusion[0]), seed])
        spread = cell.dice.sem / 100 * np.sqrt(count)
        off = spread * (0.9 * subject + 0.43 * own) + noise.normal(0, SEEDS)
        values = (cell.dice.mean / 100 if dice is None else dice) + off
        far = cell.hd95.sem / max(cell.hd95.mean, 0.1) * np.sqrt(count)
        rows = []
        for index in range(count):
            for place, structure in enumerate(structures):
                value = values[index] + noise.normal(0, RESIDUAL) + 0.01 * (-1) ** place
                hd95 = cell.hd95.mean * np.exp(min(far, 1) * noise.normal() - min(far, 1) ** 2 / 2)
                rows.append(
                    {
                        "case": f"{self.task}_{index:03}", "participant": f"person{index // 2}",
                        "group": "", "structure": structure,
                        "dice": float(np.clip(value, 0, 1)), "hd95_mm": float(hd95), "nsd": 0.5,
                        "prediction_mm3": 1000.0, "label_mm3": 1000.0, "missed": False,
                    }
                )  # fmt: skip
        return rows

    def _history(self, dice, seed):
        noise = np.random.default_rng(seed).normal(0, 0.01, (self.epochs, 2))
        return [
            {
                "epoch": e, "step": 4 * e, "learning_rate": 0.001, "seconds": 1.3,
                "train_loss": float(0.1 + 0.85 * np.exp(-3 * e / self.epochs) + noise[e - 1, 0]),
                "validation_dice": "" if e % 5 else
                float(dice * (1 - np.exp(-4 * e / self.epochs)) + noise[e - 1, 1]),
            }
            for e in range(1, self.epochs + 1)
        ]  # fmt: skip


def paper_grid(root: Path, seeds=10, **options) -> list[Path]:
    """The paper's 51 table rows, each with its seeds."""
    grids = {task: Grid(root, task, **options) for task, *_ in PAPER}
    for task, n, fusion in PAPER:
        grids[task].cell(fusion, n, seeds)
    return [folder for grid in grids.values() for folder in grid.written]


@cache
def _compose(words):
    config = configuration.resolve(compose("train", *words))
    config.trainer.precision, config.folder = "32-true", "somewhere"
    return json.dumps(OmegaConf.to_container(config, resolve=True))


def _csv(path, rows):
    path.write_text(
        "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n"
    )


def copy(folder: Path, name: str) -> Path:
    """The same run under another name."""
    return Path(shutil.copytree(folder, folder.with_name(name)))
