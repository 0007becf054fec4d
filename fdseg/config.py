"""Composing the configuration, refusing what it does not know, and what makes two runs the same."""

import copy
import difflib
import functools
import inspect
import logging
import math
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from fdseg.errors import FdsegError, Stopped

_PACKAGE = Path(__file__).parent
#: The configuration folder: inside the package in a wheel, beside it in a checkout.
FOLDER = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())

#: Keys that never change a number in a result: places, devices, views, and speed.
OPERATIONAL = frozenset(
    {
        "runs",
        "folder",
        "logger",
        "callbacks.folder",
        "callbacks.divergence",
        "callbacks.history",
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


def _padded(size: Sequence[int], multiple_of: int, minimum: int) -> ListConfig:
    from fdseg.networks.disentangled import padded_length

    return ListConfig([padded_length(n, multiple_of, minimum) for n in size])


OmegaConf.register_new_resolver("padded", _padded, replace=True)


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
            print(f"{error}; the same command goes on from there.", file=sys.stderr)
            signal.raise_signal(error.number)  # now to whoever listened before the run did
            raise SystemExit(128 + error.number) from None
        except MissingMandatoryValue as error:
            _stop(f"{error.full_key}: not given. Write {error.full_key}=…, see --help.")
        except Exception as error:
            cause = error.__cause__ if isinstance(error, InstantiationException) else error
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
        logging.getLogger("alembic").setLevel(logging.WARNING)  # Optuna's, which tells its plugins
        with errors_in_one_line(name):
            hydra.main(version_base="1.3", config_path=str(FOLDER), config_name=name)(work)()

    return main


@contextmanager
def errors_in_one_line(name: str = "train") -> Iterator[None]:
    """For commands: what a user can mend is one line and status 2, without a traceback.

    Args:
        name: of the primary configuration, to name the nearest key or option.
    """
    warnings.showwarning = _show_warning
    try:
        yield
    except FdsegError as error:
        _stop(str(error))
    except HydraException as error:
        _stop(explain(error, name, sys.argv[1:]))
    except OmegaConfBaseException as error:
        _stop(str(error))
    except BrokenPipeError:  # `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        _stop("interrupted; the same command goes on from the last checkpoint.", status=130)


def resolve(config: DictConfig) -> DictConfig:
    """Fill in what depends on the machine or on other keys, once, before anything is made.

    An unset ``data.root`` means the phantom cohort, whose ``scale`` shrinks the network's grid; a
    relative folder is one below the current folder.

    Raises:
        FdsegError: a key has a value of the wrong kind.
    """
    if "folder" in config.data:
        _resolve_own(config.data)
    if not config.data.root:
        config.data.root = None
        config.data.size = scaled_size(config.data.size, config.data.phantom.scale)
    if config.network.fusion == "none":
        config.network.split = None
    every, epochs = config.trainer.check_val_every_n_epoch, config.trainer.max_epochs
    config.trainer.check_val_every_n_epoch = min(every, epochs)  # a short run validates at its end
    for key in ("n", "seed"):
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < (key == "n"):
            raise FdsegError(f"{key}={value}: expected a whole number, 1 or more for n.")
    if config.checkpoint not in ("best", "last"):
        raise FdsegError(f"checkpoint={config.checkpoint}: expected best or last.")
    return config


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


def check_keys(config: DictConfig, name: str) -> None:
    """Refuse keys that the groups chosen on the command line do not have, naming the nearest.

    Args:
        config: the composed configuration of the running command.
        name: of the primary configuration.

    Raises:
        FdsegError: a key is unknown, or one that has no default was not given.
    """
    choices = HydraConfig.get().runtime.choices
    known = _known(name, tuple(f"{g}={c}" for g, c in choices.items() if g in _defaults(name)))
    for path, node in _nodes(config):
        group = OmegaConf.select(known, path) if path else known
        # A node with a target is checked against it; a logger's or callback's key is just a name.
        if "_target_" not in node and path not in ("logger", "callbacks") and group is not None:
            _refuse_unknown(node, group, f"{path}." if path else "")
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise FdsegError(f"{'=…, '.join(missing)}=…: missing. --help says what they are.")


@functools.cache  # the runs of a sweep differ in few choices
def _known(name: str, choices: tuple[str, ...]) -> DictConfig:
    return _compose(name, choices)


def check_arguments(config: DictConfig) -> None:
    """Refuse arguments that a ``_target_`` does not take; this imports all of them.

    Raises:
        FdsegError: a target cannot be imported, or an argument is unknown to it.
    """
    for path, node in _nodes(config):
        if "_target_" in node:
            _check_arguments(node, path)


def _nodes(node: DictConfig, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """All mappings of a configuration with their dotted path, but for interpolated ones."""
    yield path, node
    for key in map(str, node):
        unset = OmegaConf.is_interpolation(node, key) or OmegaConf.is_missing(node, key)
        if not unset and isinstance(node[key], DictConfig):
            yield from _nodes(node[key], f"{path}.{key}" if path else key)


def _check_arguments(node: DictConfig, path: str) -> None:
    try:
        parameters = inspect.signature(hydra.utils.get_object(node["_target_"])).parameters
    except Exception as error:
        raise FdsegError(
            f"{path}._target_={node['_target_']}: cannot be imported ({error}). Name a class or "
            "function by its full path, and install its package."
        ) from None
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        _refuse_unknown((k for k in node if not str(k).startswith("_")), parameters, f"{path}.")


def _refuse_unknown(given: Any, known: Any, prefix: str) -> None:
    names = [str(key) for key in known]  # a key without a value is not "in" its mapping
    for key in map(str, given):
        if key not in names:
            raise FdsegError(_unknown(prefix + key, [prefix + name for name in names]))


def _unknown(key: str, known: Sequence[str]) -> str:
    def closeness(other: str) -> float:
        """The place and the last part of a key count alike."""
        parts = zip(key.rpartition("."), other.rpartition("."), strict=True)
        return sum(difflib.SequenceMatcher(None, a, b).ratio() for a, b in parts) / 3

    near = [k for k in sorted(known, key=closeness, reverse=True)[:2] if closeness(k) > 0.7]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known[:20])}."
    return f"{key}: no such key. {hint}"


@functools.cache
def _defaults(name: str) -> list[str]:
    """The groups in the defaults of a primary configuration, and of what it builds on."""
    groups: list[str] = []
    for entry in OmegaConf.select(OmegaConf.load(FOLDER / f"{name}.yaml"), "defaults") or []:
        if isinstance(entry, DictConfig):
            groups.append(str(next(iter(entry))))
        elif entry != "_self_":
            groups += _defaults(entry)
    return groups


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Let configurations be composed, in a command of Hydra's or outside of one."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with hydra.initialize_config_dir(str(FOLDER), version_base="1.3"):
            yield


def _compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    with hydra_ready():
        return hydra.compose(name, overrides=list(overrides))


def explain(error: BaseException, name: str, words: Sequence[str]) -> str:
    """Hydra's complaint about an override, with the nearest key or option.

    Args:
        error: Hydra's.
        name: of the primary configuration.
        words: of the command line.
    """
    text = str(error)
    groups = [g for g in _defaults(name) if " " not in g]
    bad = re.search(r"(?:Could not override|Could not append to config\. .*) '([\w.@/]+)'", text)
    if bad and bad[1] in ("experiment", "debug", "sweep", "control"):
        return f"{bad[1]}=…: write +{bad[1]}=…, it is added to the configuration."
    if bad:
        chosen = [word for word in words if word.lstrip("+").split("=")[0] in groups]
        try:
            config = _compose(name, chosen)
        except HydraException:
            config = _compose(name)
        return _unknown(
            bad[1],
            [
                f"{path}.{key}".lstrip(".")
                for path, node in _nodes(config)
                for key in map(str, node)
            ],
        )
    group = re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]+)'", text)
    if group and (FOLDER / group[1]).is_dir():
        options = sorted(p.stem for p in (FOLDER / group[1]).glob("*.yaml"))
        near = difflib.get_close_matches(group[2], options, n=1)
        hint = f" Did you mean {group[1]}={near[0]}?" if near else ""
        return f"{group[1]}={group[2]}: no such option.{hint} Options: {', '.join(options)}."
    return text


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
    if category is UserWarning and Path(filename).is_relative_to(_PACKAGE):
        print(f"warning: {message}", file=sys.stderr)


def _stop(message: str, status: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)
