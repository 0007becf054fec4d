"""What dashboards show of a run, whether it has just trained or lies finished in its folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image

from fdseg.report.finished import CURVES, METRICS, WIDTHS, Run, read_history, read_rows
from fdseg.report.optional import optional
from fdseg.report.spectra import BandErrors, heat_maps, read_errors
from fdseg.report.tables import Column, Entry, Table, markdown
from fdseg.runs import task_title

_SCORES = (*METRICS, "nsd")
#: What training logs as it goes, by the column of ``history.csv``.
_LOGGED = dict(zip(CURVES, ("train/loss", "validation/dice"), strict=True)) | {
    width: f"learned/{width}" for width in WIDTHS
}


@dataclass(frozen=True)
class View:
    """All that a dashboard gets of a run beside its curves.

    Attributes:
        config: the resolved configuration, plain.
        scores: scalars, by name.
        subjects: a row for each test subject.
        pictures: overlays and the heat map of errors by frequency, as far as they are there.
    """

    config: Mapping[str, Any]
    scores: Mapping[str, float]
    subjects: Sequence[Mapping[str, Any]]
    pictures: Mapping[str, Image.Image]


def view(folder: Path, config: Mapping[str, Any], result: Mapping[str, Any]) -> View:
    """The view of a run, from the files in its folder.

    Args:
        folder: of the run.
        config: the resolved configuration, plain.
        result: as in ``result.json``, which is written last.

    Raises:
        KeyError, TypeError, ValueError: the result or ``cases.csv`` is not one of fdseg.train.
    """
    pictures = _overlays(folder)
    if errors := read_errors(folder):
        with optional(folder / "spectra.csv"):
            pictures["spectra/error"] = _heat_map(errors, result)
    return View(config, _scores(result), _subjects(read_rows(folder)), pictures)


def show(loggers: Iterable[Any], view: View) -> None:
    """Give a run's view to opened loggers, those of W&B and TensorBoard all of it."""
    for logger in loggers:
        logger.guard(_show, logger, view)


def replay(loggers: Iterable[Any], run: Run) -> None:
    """Give a finished run's curves to opened loggers that did not follow its training."""
    rows = [row for row in read_history(run, ["step", *_LOGGED]) if "step" in row]
    for logger in loggers:
        for row in rows:
            values = {name: row[column] for column, name in _LOGGED.items() if column in row}
            # Lightning counts both from 0.
            logger.log_metrics({"epoch": row["epoch"] - 1, **values}, step=int(row["step"]) - 1)


def _show(logger: Any, view: View) -> None:
    if hasattr(logger, "log_table"):  # W&B
        logger.log_hyperparams(view.config)
        logger.log_metrics(view.scores)
        for name, picture in view.pictures.items():
            logger.log_image(name, [picture])
        data = [[*row.values()] for row in view.subjects]
        logger.log_table("test/cases", columns=[*view.subjects[0]], data=data)
    elif hasattr(logger.experiment, "add_image"):  # TensorBoard
        logger.log_hyperparams(view.config, view.scores)  # the metrics of HParams
        for name, picture in view.pictures.items():
            logger.experiment.add_image(name, np.asarray(picture), dataformats="HWC")
        logger.experiment.add_text("test/cases", markdown(_table(view.subjects)))
    else:
        logger.log_hyperparams(view.config)
        logger.log_metrics(view.scores)


def _scores(result: Mapping[str, Any]) -> dict[str, float]:
    """``test/dice``, ``test/dice_sem`` and so on, of each structure too; the validation's."""
    test = result["test"]
    tables = {"test": test} | {f"test/{name}": own for name, own in test["structures"].items()}
    found = {
        f"{place}/{metric}{end}": values[metric][key]
        for place, values in tables.items()
        for metric in _SCORES
        for key, end in (("mean", ""), ("sem", "_sem"))
    }
    found |= {"test/missed": test["missed"], "validation/best_dice": result["validation"]["dice"]}
    found |= {f"test/{name}": value for name, value in result.items() if "learned_" in name}
    return {name: float(value) for name, value in found.items() if value is not None}


def _subjects(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per test subject: the mean over its structures, and each where it has several."""
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    return [
        {
            "case": case,
            "participant": own[0]["participant"],
            **{metric: fmean(row[metric] for row in own) for metric in _SCORES},
            "missed": sum(row["missed"] for row in own),
        }
        | {
            f"{row['structure']}/{metric}": row[metric]
            for row in own[: len(own) if len(own) > 1 else 0]
            for metric in _SCORES
        }
        for case, own in by_case.items()
    ]


def _overlays(folder: Path) -> dict[str, Image.Image]:
    """The pictures of a run, but for broken ones."""
    found = {}
    for rank in ("worst", "median", "best"):
        try:
            with Image.open(folder / "overlays" / f"{rank}.png", formats=["PNG"]) as picture:
                found[f"overlays/{rank}"] = picture.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return found


def _heat_map(errors: BandErrors, result: Mapping[str, Any]) -> Image.Image:
    title = task_title(result["task"], result["phantom"])
    panel = f"n = {result['n']}, seed {result['seed']}", result["fusion"]
    theta = None if result["fusion"] == "none" else result["theta"]
    return heat_maps("spectra", title, {panel: errors}, theta).picture()


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = [Column(k, (k,), is_number=not isinstance(v, str)) for k, v in rows[0].items()]
    shown = [
        [(f"{v:.4g}" if isinstance(v, float) else str(v), v) for v in r.values()] for r in rows
    ]
    entries = tuple(tuple(Entry(text, (value,)) for text, value in row) for row in shown)
    return Table("cases", "Test subjects", tuple(columns), entries)
