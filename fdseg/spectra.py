"""``python -m fdseg.spectra``: the energy of a task's images and labels by frequency."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals

if TYPE_CHECKING:
    from fdseg.data.task import Task

_OUTPUTS = ("spectra.svg", "spectra.png", "power.csv", "above_theta.csv")


def run(config: DictConfig) -> None:
    """Measure all prepared cases of a task, write tables and a figure, and print the shares.

    Writes to ``runs/<task>/cohort/``.

    Raises:
        FdsegError: the data cannot be used, θ is not one number, or nothing can be written.
    """
    configuration.resolve(config)
    theta = config.theta
    if not isinstance(theta, int | float):
        raise FdsegError(f"theta={theta}: expected one number here, for x and y.")
    task: Task = instantiate(config.data, _convert_="all")
    folder = Path(config.runs) / runs.task_folder(task.name, task.is_phantom) / "cohort"
    refuse_originals([folder / name for name in _OUTPUTS], key="runs")
    if task.is_phantom:
        print("PHANTOM COHORT: data.root is unset, so this is synthetic data.", flush=True)
    print(task.summary(), flush=True)
    _show(task, theta, folder)


def _show(task: "Task", theta: float, folder: Path) -> None:
    import numpy as np

    from fdseg.data.cache import Preparer
    from fdseg.frequency.spectrum import edges
    from fdseg.report.energies import KINDS, band_count, measure, spectra
    from fdseg.report.optional import optional
    from fdseg.report.table import aligned

    prepared = Preparer.of(task)(task.found.cases, task.digests)
    measured = measure(prepared, len(task.structures), theta)
    bands = edges(band_count(prepared[0].label().shape))
    power = {kind: np.mean([one.power[kind] for one in measured], axis=0) for kind in KINDS}
    rows = [
        {"lower": lower, "upper": upper, **{kind: power[kind][band] for kind in KINDS}}
        for band, (lower, upper) in enumerate(bands)
    ]
    shares = [{"case": one.case, "theta": theta, **one.above} for one in measured]
    try:
        runs.write_csv(folder / "power.csv", list(rows[0]), rows)
        runs.write_csv(folder / "above_theta.csv", list(shares[0]), shares)
        title = runs.task_title(task.name, task.is_phantom)
        with optional(folder / "spectra.svg"):
            spectra("spectra", title, measured, theta).write(folder)
    except OSError as error:
        raise FdsegError(
            f"{folder}: cannot be written ({error.strerror}). Choose another place with runs=…"
        ) from None
    lines = [[f"energy above theta={theta:g}", "median", "least", "most"]]
    for kind in KINDS:
        above = sorted(one.above[kind] for one in measured)
        shown = above[len(above) // 2], above[0], above[-1]
        lines.append([kind, *(f"{100 * share:.2f} %" for share in shown)])
    print(f"\n{aligned(lines)}\n")
    for file in _OUTPUTS:
        if (folder / file).is_file():  # a figure may have failed
            print(folder / file)


main = configuration.entry_point(run, "spectra")

if __name__ == "__main__":
    sys.exit(main())
