"""Reading what somebody else may have made: a run's configuration and its checkpoints.

Hydra imports and calls whatever a ``_target_`` names, and a pickle does what it likes. A run that
was sent by mail must not. So a configuration is plain YAML whose targets are classes of known
packages; of these only parts of networks are ever made; a checkpoint is tensors and plain values.
"""

import functools
import importlib
import importlib.util
import re
import zipfile
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fdseg.errors import FdsegError, first_line

#: Whose classes a configuration may name.
PACKAGES = ("fdseg", "torch", "torchio", "lightning", "monai")
_MASKS = tuple(
    f"fdseg.frequency.masks.{name}"
    for name in ("box", "ball", "gaussian", "butterworth", "random", "complement")
)
_FUNCTIONS = ("fdseg.metrics.score", *_MASKS)
#: Where parts of networks are. Elsewhere in the same packages are classes that start processes
#: (torch.distributed), run what they are told (lightning's CLI) or evaluate text (monai.bundle).
_NETWORKS = ("fdseg.networks", "fdseg.frequency", "monai.networks", "torch.nn")
_LARGEST, _DEEPEST = 2**17, 30  # bytes and levels of a configuration; a run's has 4,000 and 6
_MOST = 2**16  # a number in a network: nothing is made in a larger one, but from a seed
_CALLS, _FEW = 100, 10_000  # of PyTorch, to make a tensor of a network; the configuration's need 8
_SPENT = ("_target_", "_convert_", "_recursive_")  # of Hydra's words; all here is plain, and made
_CLASS = re.compile(r"([a-z][A-Za-z0-9_]*\.)+[A-Z][A-Za-z0-9_]*", re.ASCII)


def read_config(path: Path, trust: Sequence[str] = ()) -> dict[str, Any]:
    """Read the resolved configuration of a run; nothing that it names is imported.

    Args:
        path: of ``config.yaml``.
        trust: further packages, or full names, that targets may come from.

    Raises:
        FdsegError: the file is missing or no plain YAML mapping; a target is not a class of the
            known packages; a text holds an interpolation.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise FdsegError(f"{path}: larger than the configuration of a run can be.")
        text = path.read_text(encoding="utf-8")
        _require_simple(text, path)
        config = yaml.safe_load(text)
    except FileNotFoundError:
        raise FdsegError(f"{path}: no such file. run=… is the folder of a run.") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FdsegError(f"{path}: cannot be read as plain YAML ({reason}).") from None
    if not isinstance(config, dict):
        raise FdsegError(f"{path}: not the configuration of a run.")
    for key, value in _leaves(config):
        if isinstance(value, str) and "${" in value:
            raise FdsegError(f"{path}: {key}={value} is an interpolation; a run's are resolved.")
        if key.endswith("_target_") and not _may_name(value, trust):
            raise FdsegError(_refusal(path, key, value))
    return config


def build(node: Any, path: Path, key: str = "network", trust: Sequence[str] = ()) -> Any:
    """Make the network that a configuration describes, of classes that were checked one by one.

    Hydra's ``instantiate`` would look names up again along any attribute; here the object that was
    checked is the one that is called.

    Args:
        node: the configuration, with ``_target_`` and, where wanted, ``_args_`` and ``_partial_``.
        path: of the file it is from, for messages.
        key: of the node in that file.
        trust: further packages, or full names, that targets may come from.

    Raises:
        FdsegError: a target is no part of a network, or cannot be made with its arguments.
    """
    if isinstance(node, list):
        return [build(value, path, f"{key}[{i}]", trust) for i, value in enumerate(node)]
    if not isinstance(node, dict):
        if isinstance(node, str) and re.search(r"[/\\]", node) and not trust:
            raise FdsegError(f"{path}: {key}={node}: a network is not made of files or addresses.")
        most = 2**64 if key.endswith(".seed") else _MOST
        if isinstance(node, int | float) and not abs(node) <= most and not trust:
            raise FdsegError(f"{path}: {key}={node}: a network cannot be made with this number.")
        return node
    if "_target_" not in node:
        return {k: build(value, path, f"{key}.{k}", trust) for k, value in node.items()}
    # Refused before anything inside it is made.
    part = _resolve(node["_target_"], path, f"{key}._target_", trust)
    if node["_target_"] in _MASKS and node.get("_partial_") is not True:
        raise FdsegError(f"{path}: {key}: a mask is made when its grid is known (_partial_: true).")
    values = {
        k: build(value, path, f"{key}.{k}", trust) for k, value in node.items() if k not in _SPENT
    }
    partial, arguments = values.pop("_partial_", False), values.pop("_args_", [])
    try:
        make = functools.partial(part, *arguments, **values)
        return make if partial else make()
    except Exception as error:
        raise FdsegError(
            f"{path}: {key} cannot be made ({first_line(error).rstrip('.')})."
        ) from None


def outline(node: Any, path: Path, tensors: int) -> nn.Module:
    """Make a network as :func:`build` does, but of shapes alone, on PyTorch's meta device.

    It takes no memory and computes nothing, whatever the size of the network.

    Args:
        node: the configuration.
        path: of the file it is from, for messages.
        tensors: that its checkpoint holds.

    Raises:
        FdsegError: as of :func:`build`; or the network has far more tensors.
    """
    with torch.device("meta"), _Limit(_CALLS * tensors + _FEW):
        return build(node, path)


class _Limit(TorchFunctionMode):
    """Ends what calls PyTorch too often."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it has far more parts than its checkpoint")
        kwargs = dict(kwargs or {})
        if function is torch.linspace:  # whose numbers MONAI reads
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of the network in a checkpoint of a run.

    Raises:
        FdsegError: the file is missing or broken, holds more than tensors and plain values, would
            take more memory than its size, or has weights that are not finite.
    """
    if not path.is_file():
        raise FdsegError(f"{path}: no such checkpoint.")
    size = path.stat().st_size
    try:
        require_intact(path)
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        weights = {
            name.removeprefix("network."): value
            for name, value in state.items()
            if name.startswith("network.")
        }
        for name, value in weights.items():
            if value.numel() * value.element_size() > size:
                raise ValueError(f"{name} is larger than the file")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name} is not finite")
    except Exception as error:  # whatever forged bytes make of a reader
        reason = first_line(error).rstrip(".")
        raise FdsegError(
            f"{path}: not a checkpoint of tensors and plain values ({reason})."
        ) from None
    if not weights:
        raise FdsegError(f"{path}: holds no network.")
    return weights


def require_intact(path: Path) -> None:
    """Refuse a checkpoint of which a bit has changed; PyTorch reads it without looking.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: it is missing, damaged or compressed.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed, which no checkpoint is")
        if damaged := archive.testzip():
            raise ValueError(f"damaged: {damaged} in it has another checksum")


def _require_simple(text: str, path: Path) -> None:
    """Refuse what would cost a YAML reader hours or gigabytes; fdseg writes neither."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _DEEPEST:
            raise FdsegError(f"{path}: holds YAML aliases, or is nested deeper than a run's.")


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All targets, and all values that are no mapping or list, with their keys."""
    if isinstance(node, dict):
        inner = [(f"{key}.{name}" if key else str(name), value) for name, value in node.items()]
    elif isinstance(node, list):
        inner = [(f"{key}[{index}]", value) for index, value in enumerate(node)]
    else:
        yield key, node
        return
    for name, value in inner:
        if name.endswith("_target_"):
            yield name, value
        else:
            yield from _leaves(value, name)


def _may_name(name: Any, trust: Sequence[str]) -> bool:
    """Whether a target reads as a class in a module of a known package; nothing is imported."""
    if not isinstance(name, str):
        return False
    if name in _FUNCTIONS or _trusted(name, trust):
        return True
    package, *modules = name.split(".")[:-1] or [""]
    return (
        package in PACKAGES and _CLASS.fullmatch(name) is not None and _is_module(package, modules)
    )


def _is_module(package: str, modules: Sequence[str]) -> bool:
    """Whether a package on disk has such a module, as opposed to one that it imports itself."""
    spec = importlib.util.find_spec(package)
    for module in modules:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{module}", spec.submodule_search_locations)
    return spec is not None


def _trusted(name: str, trust: Sequence[str]) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in trust)


def _resolve(name: Any, path: Path, key: str, trust: Sequence[str]) -> Any:
    """The class of a network's part, which must also be defined where its name says."""
    if not _may_name(name, trust) or not _trusted(name, (*_NETWORKS, *trust)):
        raise FdsegError(_refusal(path, key, name, _NETWORKS))
    module, _, last = name.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), last)
    except (ImportError, AttributeError) as error:
        raise FdsegError(f"{path}: {key}={name}: {first_line(error).rstrip('.')}.") from None
    if (
        name in _MASKS
        or _trusted(name, trust)
        or (
            isinstance(part, type)
            and issubclass(part, nn.Module)
            and _trusted(part.__module__, _NETWORKS)
        )
    ):
        return part
    raise FdsegError(_refusal(path, key, name, _NETWORKS))


def _refusal(path: Path, key: str, name: Any, packages: Sequence[str] = PACKAGES) -> str:
    shown = name if isinstance(name, str) else f"a {type(name).__name__}"
    return (
        f"{path}: {key} names {shown}. Here a run may name classes of {', '.join(packages)}, and "
        "nothing else, because what it names is run. If it is a network of your own, write "
        "trust=[its.package]; if not, do not use this run."
    )
