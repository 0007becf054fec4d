"""Composing the configuration, and refusing what it does not know with what comes nearest."""

import difflib
import functools
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf

from fdseg.errors import FdsegError
from fdseg.words import unreadable

_PACKAGE = Path(__file__).parent
#: The configuration folder: inside the package in a wheel, beside it in a checkout.
FOLDER = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())


def _padded(size: Sequence[int], multiple_of: int, minimum: int) -> ListConfig:
    from fdseg.networks.disentangled import padded_length

    return ListConfig([padded_length(n, multiple_of, minimum) for n in size])


def _if_phantom(root: str | None, yes: str, no: str) -> str:
    """Of two words the one for a cohort with this ``data.root``."""
    return no if root else yes


def _tag(text: str) -> str:
    """A tag of W&B, which has 64 characters at most."""
    return str(text)[:64]


def _identity(folder: str | None) -> str | None:
    """The hash in the name of a run's folder; ``None`` before the folder is known."""
    return folder and folder.rpartition("-")[2]


OmegaConf.register_new_resolver("padded", _padded, replace=True)
OmegaConf.register_new_resolver("if_phantom", _if_phantom, replace=True)
OmegaConf.register_new_resolver("tag", _tag, replace=True)
OmegaConf.register_new_resolver("identity", _identity, replace=True)


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
    missing = [
        f"{path}.{key}=…".lstrip(".")
        for path, node in _nodes(config)
        for key in map(str, node)
        if not OmegaConf.is_interpolation(node, key) and OmegaConf.is_missing(node, key)
    ]
    if missing:
        raise FdsegError(f"{', '.join(missing)}: not given. --help says what is meant.")


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
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    text = str(error)
    groups = [g for g in _defaults(name) if " " not in g]
    bad = re.search(r"(?:Could not override|Could not append to config\. .*) '([\w.@/]+)'", text)
    if bad and bad[1] in ("experiment", "debug", "sweep", "control", "regime"):
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
