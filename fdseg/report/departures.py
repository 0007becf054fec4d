"""How the settings of an arm depart from those of another, in words."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fdseg.config import options
from fdseg.report.paper import FUSIONS

#: Configuration groups whose options are classes and their arguments.
_GROUPS = ("augmentation", "backbone", "loss", "optimizer", "split")
_LINK = re.compile(r"\$\{([\w.]+)\}")
_LONGEST = 48  # characters of a value in a name


def own(settings: Mapping[str, Any], fusion: str, split: bool) -> dict[str, Any]:
    """Settings without what only repeats others, and what an arm of this fusion has not.

    Args:
        settings: of an arm, or of the reference arms, that it is to be told from.
        fusion: of the arm; one that is not the paper's stands for a stem of its own.
        split: whether the arm has one; without, θ means nothing.
    """
    backbone = settings["backbone"]
    repeated = {**settings, **backbone, "backbone": backbone.get("network")}
    network = {
        k: v for k, v in settings["network"].items() if k not in repeated or v != repeated[k]
    }
    shared = {**settings, "network": network}
    for group in _GROUPS:
        if option := _option(group, settings.get(group)):
            shared[group] = _unlinked(options(group)[option], settings[group], settings)
    if fusion not in FUSIONS:
        network.pop("stem", None)
    if not split:
        network.pop("split", None)
        shared |= {"split": None, "theta": None}
    return shared


def _unlinked(option: Any, value: Any, settings: Mapping[str, Any]) -> Any:
    """A value without what its option takes from elsewhere, where it has it as it is there."""
    if not (isinstance(option, dict) and isinstance(value, dict)):
        return value
    links = {key: _LINK.fullmatch(str(each)) for key, each in option.items()}
    return {
        key: _unlinked(option.get(key), each, settings)
        for key, each in value.items()
        if not ((link := links.get(key)) and value_at(settings, link[1]) == each)
    }


def departures(values: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """``key=value`` of all that differs, each thing once.

    A configuration may say a thing twice (``theta``, ``split.theta``): of the same value under the
    same last word, a key counts for those below its own place. How the data was split stands for
    its fingerprint.
    """
    found: list[tuple[str, str]] = []
    for key, value in sorted(_differing(values, reference), key=lambda item: len(item[0])):
        text = value_text(value)
        if not any(text == other and _repeats(key, above) for above, other in found):
            found.append((key, text))
    if any(key.startswith("data.") for key, _ in found):
        found = [item for item in found if item[0] != "fingerprint"]
    return [f"{key}={text}" for key, text in sorted(found)]


def _repeats(key: str, above: str) -> bool:
    """Whether a key ends as one further up: ``split.theta`` as ``theta``."""
    place, _, last = above.rpartition(".")
    return key.rpartition(".")[2] == last and key.startswith(f"{place}." if place else "")


def _differing(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of what differs; other options, classes or names as a whole."""
    if isinstance(a, dict) and isinstance(b, dict) and _kind(a, path) == _kind(b, path):
        for key in sorted({*a, *b}):
            yield from _differing(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b:
        option = _option(path, a)
        yield path, option or a
        if option:
            yield from _changed(options(path)[option], a, path)


def _kind(value: dict[str, Any], key: str) -> str | None:
    """The option, the name or the class of a mapping: of two kinds, no values are compared."""
    return _option(key, value) or value.get("name") or value.get("_target_")


def _option(key: str, value: Any) -> str | None:
    """The option that a value of one of ``_GROUPS`` was made of, if it is one of fdseg's."""
    fitting = {
        name: alike
        for name, option in (options(key).items() if key in _GROUPS else ())
        if (alike := _likeness(option, value)) is not None
    }
    return max(fitting, key=fitting.__getitem__, default=None)


def _likeness(option: Any, value: Any) -> int | None:
    """How many values they have in common; ``None`` where names, classes or nesting differ."""
    if isinstance(option, dict) and isinstance(value, dict):
        if any(option.get(key) != value.get(key) for key in ("name", "_target_")):
            return None
        parts = [_likeness(each, value.get(k)) for k, each in option.items() if k != "defaults"]
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
        for key, each in value.items():
            if key in option:
                yield from _changed(option[key], each, f"{path}.{key}")
            elif "defaults" not in option:  # which have it
                yield f"{path}.{key}", each
    elif isinstance(option, list) and option and isinstance(option[0], dict):
        for index, pair in enumerate(zip(option, value, strict=True)):
            yield from _changed(*pair, f"{path}.{index}")
    elif option != value:
        yield path, value


def value_text(value: Any, key: str = "") -> str:
    """A value as a name holds it: of a mapping, its option, its own name or that of its class."""
    if isinstance(value, dict):
        kind = _kind(value, key) or "{" + ",".join(sorted(value)) + "}"
        text = kind.rpartition(".")[2] if kind == value.get("_target_") else kind
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
