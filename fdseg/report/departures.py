"""How the settings of an arm depart from those of another, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

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
    return sorted(f"{key}={value}" for (_, value), key in found.items())


def _differing(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of what differs; other classes, or files of other names, as a whole."""
    if isinstance(a, dict) and isinstance(b, dict) and value_text(a) == value_text(b):
        for key in sorted({*a, *b}):
            yield from _differing(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    elif a != b:
        yield path, a


def value_text(value: Any) -> str:
    """A value as a name holds it; of a mapping, its own name or that of its class."""
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
