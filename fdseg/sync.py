"""``python -m fdseg.sync``: dashboards rebuilt from the folders of finished runs."""

import hashlib
import json
import os
import re
import shutil
import sys
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError, first_line
from fdseg.terminal import counted

if TYPE_CHECKING:
    from fdseg.report.finished import Run

RECORD = "synced.json"  # of a run's views: what they were made of and how; empty until whole
_SHOWN = ("config.yaml", "result.json", "cases.csv", "history.csv", "spectra.csv", "overlays/*.png")
# This machine, while it syncs, is not what trained the run.
_UNMEASURED = {"x_disable_stats": True, "x_disable_meta": True}


def run(config: DictConfig) -> None:
    """Write the views of all finished runs that have none, or whose files have changed since.

    Raises:
        FdsegError: there is no finished run or no logger, another sync is at work, or the views
            cannot be written or sent.
    """
    if not config.logger:
        raise FdsegError("logger: names none. Choose logger=all, wandb or tensorboard.")
    from fdseg.progress import progress
    from fdseg.report.collect import LeftOut, collect
    from fdseg.report.finished import UnusableError
    from fdseg.report.results import left_out
    from fdseg.report.tables import markdown

    os.environ.setdefault("WANDB_SILENT", "true")  # its words of every run would hide the list
    root, output = (Path(config[key]).expanduser().absolute() for key in ("runs", "output"))
    bar = partial(progress, unit="run")
    collection = collect(root, skip=output, progress=partial(bar, title="Reading runs"))
    absent, written = [*collection.left_out], []
    with runs.only_process(output, "sync", "output") if collection.runs else nullcontext():
        for one in bar(collection.runs, title="Syncing"):
            try:
                written.append(_sync(config, one, output / one.folder.relative_to(root)))
            except UnusableError as problem:
                absent.append(LeftOut(one.folder, problem.kind, problem.reason))
    listed = f"{markdown(left_out(absent, root))}\n" if absent else ""
    if not written:
        raise FdsegError(f"runs={root}: no finished run is in it.\n\n{listed}".strip())
    print(
        f"{listed}{counted(sum(written), 'run')} synced, {written.count(False)} unchanged\n{output}"
    )


def _sync(config: DictConfig, one: "Run", views: Path) -> bool:
    """Write the views of a run into a folder of their own, unless they are there already."""
    from fdseg.report.dashboard import replay, show, view
    from fdseg.report.finished import UnusableError, read_config
    from fdseg.report.loggers import opened

    plain = read_config(one.folder)
    if "${" in json.dumps(plain):
        raise UnusableError("foreign", "config.yaml: not resolved, as that of a run is")
    folder = plain.get("folder")
    if not isinstance(folder, str) or not re.search(r"-[0-9a-f]{8}$", folder):
        raise UnusableError("foreign", f"config.yaml: folder={folder} is not that of a run")
    try:
        loggers = _loggers(config, plain)
        record = {"content": _digest(one.folder), "loggers": loggers, "fdseg": version("fdseg")}
        if runs.read_json(views / RECORD) == record:
            return False
        shown = view(one.folder, plain, runs.read_result(one.folder) or {})
        _clear(views)
        placed = _loggers(config, {**plain, "folder": str(views)})
        if "wandb" in placed:
            placed["wandb"]["id"] = loggers["wandb"]["id"]  # of the run, wherever it was moved
        with opened(instantiate(placed, _convert_="all").values()) as made:
            replay(made, one)
            show(made, shown)
        runs.write_json(views / RECORD, record)
    except FdsegError:  # files or a server failed, as they would for all others
        raise
    except OSError as error:
        raise FdsegError(
            f"{views}: cannot be written ({error.strerror}). Choose a folder that can with output=…"
        ) from None
    except Exception as problem:  # whatever an odd run makes of those who show it
        if (views / RECORD).is_file():
            _clear(views)  # nothing of it is shown by half
        reason = f"cannot be shown: {type(problem).__name__}: {first_line(problem)}"
        raise UnusableError("foreign", reason) from None
    return True


def _loggers(config: DictConfig, plain: dict[str, Any]) -> dict[str, Any]:
    """The loggers as fdseg.train would have them for a run with this configuration."""
    made = OmegaConf.create({**plain, "logger": OmegaConf.to_container(config.logger)})
    loggers: Any = OmegaConf.to_container(made.logger, resolve=True)
    if "wandb" in loggers:
        # With an id and without resuming, W&B puts this run into the place of the one before.
        settings = (loggers["wandb"].get("settings") or {}) | _UNMEASURED
        loggers["wandb"] |= {"resume": None, "settings": settings}
    return loggers


def _digest(folder: Path) -> str:
    """A hash of all that is shown of a run."""
    total = hashlib.sha256()
    for path in sorted(path for pattern in _SHOWN for path in folder.glob(pattern)):
        total.update(f"{path.relative_to(folder)} {runs.sha256(path)}\n".encode())
    return total.hexdigest()


def _clear(views: Path) -> None:
    """Make room for a run's views: what an earlier sync left goes, and nothing else.

    Raises:
        FdsegError: there is something that no sync has written.
    """
    old = [path for path in views.glob("*") if path.name not in (RECORD, runs.LOCK)]
    if old and not (views / RECORD).is_file():
        raise FdsegError(f"{views}: holds other files. Choose another folder with output=…")
    runs.write_json(views / RECORD, {})
    for path in old:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


main = configuration.entry_point(run, "sync")

if __name__ == "__main__":
    sys.exit(main())
