"""Composing the configuration, refusing what it does not know, and what makes two runs the same."""

import copy
import functools
import logging
import math
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fdseg.compose import FOLDER, check_keys, explain
from fdseg.errors import FdsegError, Stopped, not_written
from fdseg.values import RULES, require_value
from fdseg.words import with_paths

#: Keys that never change a number in a result: places, devices, views, and speed.
OPERATIONAL = frozenset(
    {
        "runs",
        "folder",
        "logger",
        "callbacks.folder",
        "callbacks.divergence",
        "callbacks.history",
        "callbacks.spectra",
        "callbacks.precision",
        "callbacks.progress",
        "callbacks.signal",
        "callbacks.last",
        "callbacks.best._target_",
        "callbacks.best.dirpath",
        "callbacks.best.filename",
        "callbacks.best.enable_version_counter",
        "loader.workers",
        "loader.in_ram",
        "data.root",
        "data.cache",
        "data.sizes",
        "data.archive",
        "data.cohort.folder",
        "trainer.accelerator",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy",
        "trainer.use_distributed_sampler",
        "trainer.logger",
        "trainer.callbacks",
        "trainer.default_root_dir",
        "trainer.enable_progress_bar",
        "trainer.enable_model_summary",
        "trainer.log_every_n_steps",
    }
)


def entry_point(run: Callable[[DictConfig], float | None], name: str) -> Callable[[], None]:
    """The ``main`` of a command: Hydra's, with errors that a person can act upon.

    Args:
        run: the work, given the composed configuration.
        name: of the primary configuration.
    """

    @functools.wraps(run)
    def work(config: DictConfig) -> float | None:
        try:
            check_keys(config, name)
            refuse_devices_in_one_process(config)
        except FdsegError as error:  # of the command, not of one of its runs
            _stop(str(error))
        try:
            return run(config)
        except Stopped as error:
            if error.number == signal.SIGINT:
                raise KeyboardInterrupt(f" It stopped {error.where}.") from None
            print(f"{error}; the same command goes on from there.", file=sys.stderr)
            signal.raise_signal(error.number)  # now to whoever listened before the run did
            raise SystemExit(128 + error.number) from None
        except Exception as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
            cause = not_written(error) or cause
            if not _in_multirun():
                if isinstance(cause, FdsegError):
                    _stop(str(cause))
                raise
            # The others go on. What runs cannot be trusted to remember, their folders do.
            if isinstance(cause, FdsegError):
                print(f"error: {cause}", file=sys.stderr)
            else:
                traceback.print_exc()
            return math.nan  # for a search: a trial that failed

    def main() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us instead of being printed
        # OpenMP's threads spin while they wait. With another busy program on the machine that made
        # a training step 30 times slower; this short a spin cost nothing where there was none.
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        # Optuna's, which tells its plugins; torch tells its caches where Ctrl-C ends its import.
        for noisy in ("alembic", "torch"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        then = {"train": "repeat the command to go on"}.get(name, "what is done stays")
        with errors_in_one_line(name, then):
            sys.argv[1:] = with_paths(sys.argv[1:])
            hydra.main(version_base="1.3", config_path=str(FOLDER), config_name=name)(work)()

    return main


@contextmanager
def errors_in_one_line(name: str = "train", then: str = "what is done stays") -> Iterator[None]:
    """For commands: what a user can mend is one line and status 2, without a traceback.

    Ctrl-C is one line and status 130; given twice, it ends the process at once.

    Args:
        name: of the primary configuration, to name the nearest key or option.
        then: what to say of an interruption.
    """
    warnings.showwarning = _show_warning
    logging.raiseExceptions = False  # a full disk is told once, not for every line of W&B's log
    threading.excepthook = _show_failed_thread
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
        sys.stdout.flush()
    except FdsegError as error:
        _stop(str(error))
    except HydraException as error:
        _stop(explain(error, name, sys.argv[1:]))
    except OmegaConfBaseException as error:
        _stop(str(error))
    except BrokenPipeError:  # `--help | head`
        _let_go_of_stdout()
    except OSError as error:
        if (full := not_written(error)) is None:
            raise
        _let_go_of_stdout()
        _stop(str(full))
    except KeyboardInterrupt as error:
        print(f"\ninterrupted; {then}.{error}", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _let_go_of_stdout() -> None:
    """Give up what was printed, where it cannot be written; at the end Python would try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: Any) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # the next one meets no Python that could end untidily
    raise KeyboardInterrupt


def resolve(config: DictConfig) -> DictConfig:
    """Fill in what depends on the machine or on other keys, once, before anything is made.

    An unset ``data.root`` means the phantom cohort, whose ``scale`` shrinks the network's grid; a
    relative folder is one below the current folder.

    Raises:
        FdsegError: a key has a value that can never be right.
    """
    if "folder" in config.data:
        _resolve_own(config.data)
    check_values(config)
    if not config.data.root:
        config.data.root = None
        config.data.size = scaled_size(config.data.size, config.data.phantom.scale)
    if config.network.fusion == "none":
        config.network.split = None
    every, epochs = config.trainer.check_val_every_n_epoch, config.trainer.max_epochs
    config.trainer.check_val_every_n_epoch = min(every, epochs)  # a short run validates at its end
    return config


def check_values(config: DictConfig) -> None:
    """Refuse values that can never be right, whether they would be used or not.

    Raises:
        FdsegError: names the first key with such a value.
    """
    for key in RULES:
        value = OmegaConf.select(config, key, default=...)
        if value is not ...:
            plain = OmegaConf.is_config(value)
            require_value(key, OmegaConf.to_container(value) if plain else value)


def several(value: Any) -> list[str]:
    """``key=a`` and ``key=[a,b]`` alike."""
    return [str(one) for one in (value if isinstance(value, ListConfig) else [value])]


def _resolve_own(data: DictConfig) -> None:
    """Fill in what a folder of one's own says of itself; from then on it is ``data.root``."""
    from fdseg.data import own

    if not data.folder:
        raise FdsegError("data.folder: not given. It is the folder of your volumes and labels.")
    folder = Path(data.folder).expanduser().absolute()
    with open_dict(data):
        del data["folder"]
    data.root = str(folder)
    data.name = data.name or own.task_name(folder)
    data.structures = data.structures or own.structures_of(folder)
    if not data.size:
        size = own.suggest_size(hydra.utils.instantiate(data.cohort)(folder, data.exclude).cases)
        raise FdsegError(
            "data.size: not given. It is the network's grid in voxels; for the volumes of "
            f"{folder}, data.size=[{','.join(map(str, size))}] may be a good one."
        )


def scaled_size(size: Sequence[int], scale: float) -> list[int]:
    """The network's grid for a phantom of this scale: multiples of 4 that hold it."""
    return [-(-round(n * scale) // 4) * 4 for n in size]


def science(config: DictConfig) -> dict[str, Any]:
    """The part of a resolved configuration that decides the numbers of a result.

    θ and the split do not count where nothing is split, nor the phantom where data is real, nor
    callbacks that train and choose the tested epoch as the default ones do.
    """
    return scientific(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]


def scientific(config: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`science` of a plain configuration, as a run's ``config.yaml`` holds it."""
    values = copy.deepcopy(dict(config))
    if values["network"]["fusion"] == "none":
        values["theta"] = values["split"] = None
    if values["data"]["root"] is not None:
        values["data"]["phantom"] = None
    for key in OPERATIONAL:
        *parents, last = key.split(".")
        node = values
        for parent in parents:
            node = node.get(parent) or {}
        node.pop(last, None)
    if values["callbacks"] == {"best": {"monitor": "validation/dice", "mode": "max"}}:
        del values["callbacks"]
    return values


@functools.cache
def options(group: str) -> dict[str, Any]:
    """The options of a group by name, as their files have them: ``${…}`` unresolved."""
    files = sorted((FOLDER / group).glob("*.yaml"))
    return {file.stem: OmegaConf.to_container(OmegaConf.load(file)) for file in files}


def _in_multirun() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def refuse_devices_in_one_process(config: DictConfig) -> None:
    """Refuse a run on several devices inside a multirun that does all runs in this process.

    Raises:
        FdsegError: names the launcher that works.
    """
    trainer = config.get("trainer")
    several = trainer and (trainer.get("strategy") or trainer.devices not in (1, "1"))
    if several and _in_multirun() and HydraConfig.get().launcher._target_.endswith("BasicLauncher"):
        raise FdsegError(
            "trainer.strategy and trainer.devices: a run on several devices starts more processes "
            "by the words of its command, and here these are a whole sweep. Add "
            "hydra/launcher=processes hydra.launcher.jobs=1, so that every run is a command of "
            "its own, or hydra/launcher=slurm."
        )


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any
) -> None:
    """A warning in one line; libraries' own, which a user cannot act upon, are left out."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        print(f"warning: {message}", file=sys.stderr)


def _show_failed_thread(failed: threading.ExceptHookArgs) -> None:
    """All but a full disk, which TensorBoard's thread tells to the one that logs."""
    if failed.exc_value is None or not_written(failed.exc_value) is None:
        threading.__excepthook__(failed)


def _stop(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
