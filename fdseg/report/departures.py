"""How the settings of an arm depart from those of another, in words."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from fdseg.config import FOLDER

#: Configuration groups whose options are classes and their arguments, without a name of their own.
_GROUPS = ("augmentation", "loss", "optimizer", "split")
_LONGEST = 48  # characters of a value in a name


def own(settings: Mapping[str, Any], fusion: str) -> dict[str, Any]:
    """Settings without what the network only repeats, and what an arm without a split has not."""
    backbone = settings["backbone"]
    repeated = {**settings, **backbone, "backbone": backbone.get("network")}
    network = {
        k: v for k, v in settings["network"].items() if k not in repeated or v != repeated[k]
    }
    shared = {**settings, "network": network}
    if fusion == "none":
        network.pop("split", None)
        shared |= {"split": None, "theta": None}
    return shared


def departures(values: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """``key=value`` of all that differs, each thing once.

    A configuration may say a thing twice (``theta``, ``split.theta``): of the same value under the
    same last word, the shortest key counts. How the data was split stands for its fingerprint.
    """
    found: dict[tuple[str, str], str] = {}
    for key, value in sorted(_differing(values, reference), key=lambda item: len(item[0])):
        found.setdefault((key.rpartition(".")[2], value_text(value)), key)
    if any(key.startswith("data.") for key in found.values()):
        found = {item: key for item, key in found.items() if key != "fingerprint"}
    return [f"{key}={value}" for key, value in sorted((k, v) for (_, v), k in found.items())]


def _differing(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of what differs; other options, classes or names as a whole."""
    if isinstance(a, dict) and isinstance(b, dict) and value_text(a, path) == value_text(b, path):
        for key in sorted({*a, *b}):
            yield from _differing(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b:
        option = _option(path, a)
        yield path, option or a
        if option:
            yield from _changed(_options(path)[option], a, path)


def _option(key: str, value: Any) -> str | None:
    """The option that a value of one of ``_GROUPS`` was made of, if it is one of fdseg's."""
    fitting = {
        name: alike
        for name, option in (_options(key).items() if key in _GROUPS else ())
        if (alike := _likeness(option, value)) is not None
    }
    return max(fitting, key=fitting.__getitem__, default=None)


@cache
def _options(group: str) -> dict[str, Any]:
    """By name, as their files have them."""
    found = {}
    for file in sorted((FOLDER / group).glob("*.yaml")):
        option: Any = OmegaConf.to_container(OmegaConf.load(file))
        option.pop("defaults", None)
        found[file.stem] = option
    return found


def _likeness(option: Any, value: Any) -> int | None:
    """How many values they have in common; ``None`` where classes or their nesting differ."""
    if isinstance(option, dict) and isinstance(value, dict):
        if option.get("_target_") != value.get("_target_"):
            return None
        parts = [_likeness(each, value.get(key)) for key, each in option.items()]
    elif isinstance(option, list) and isinstance(value, list) and len(option) == len(value):
        parts = [_likeness(*pair) for pair in zip(option, value, strict=True)]
    elif isinstance(option, dict | list) or isinstance(value, dict):
        return None
    else:
        return int(option == value)
    return None if None in parts else sum(part or 0 for part in parts)


def _changed(option: Any, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Keys and values in which a value departs from the option that it was made of."""
    if isinstance(option, dict):
        for key, each in option.items():
            yield from _changed(each, value.get(key), f"{path}.{key}")
    elif option != value and "${" not in str(option):
        yield path, value


def value_text(value: Any, key: str = "") -> str:
    """A value as a name holds it: of a mapping, its option, its own name or that of its class."""
    return (_option(key, value) if isinstance(value, dict) else None) or _text(value)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        text = value.get("name") or str(value.get("_target_", "{…}")).rpartition(".")[2]
    elif value is None:
        text = "none"
    elif isinstance(value, list):
        text = f"[{','.join(map(value_text, value))}]"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def value_at(settings: Mapping[str, Any], path: str) -> Any:
    """Of a dotted key; ``None`` where there is none."""
    node: Any = settings
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node
