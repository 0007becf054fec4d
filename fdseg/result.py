"""What the result of a run holds: one rule for all who read it."""

import json
import math
import sys
from typing import Any

_FACTS = {
    "task": str, "phantom": bool, "backbone": str, "fusion": str, "theta": object,
    "checkpoint": str,
}  # fmt: skip
#: The scores of a result, and the most that each can be.
_MOST = {"dice": 1.0, "hd95_mm": math.inf, "nsd": 1.0}


def require_whole(result: Any) -> None:
    """Refuse what is not the whole result of a run.

    Args:
        result: what ``result.json`` holds.

    Raises:
        ValueError: names the key and what is wrong with it.
    """
    if not isinstance(result, dict):
        raise ValueError("it is no JSON mapping")
    for key, kind in _FACTS.items():
        if not isinstance(value := _at(result, key), kind):
            raise _error((key,), value)
    _count(result, "n", least=1)
    _count(result, "seed")
    _number(result, "validation", "dice", most=1)
    _count(result, "test", "subjects", least=1)
    _count(result, "test", "missed")
    structures = _at(result, "test", "structures")
    if not isinstance(structures, dict) or not structures:
        raise _error(("test", "structures"), structures)
    for place in (("test",), *(("test", "structures", name) for name in structures)):
        for metric, most in _MOST.items():
            mean = _number(result, *place, metric, "mean", most=most)
            sem = _at(result, *place, metric, "sem")
            # One subject has no SEM, and an infinite mean none that is a number.
            if sem is not None and not (math.isinf(mean) and sem != sem):
                _number(result, *place, metric, "sem", most=math.inf)


def _at(values: Any, *keys: str) -> Any:
    for depth, key in enumerate(keys):
        if not isinstance(values, dict):
            raise _error(keys[:depth], values)
        if key not in values:
            raise ValueError(f"{'.'.join(keys[: depth + 1])} is missing")
        values = values[key]
    return values


def _number(result: Any, *keys: str, most: float) -> float:
    value = _at(result, *keys)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Text files can hold whole numbers beyond the largest float.
    if not is_number or not (value == most or 0 <= value <= min(most, sys.float_info.max)):
        raise _error(keys, value)
    return value


def _count(result: Any, *keys: str, least: int = 0) -> None:
    value = _at(result, *keys)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**64:
        raise _error(keys, value)


def _error(keys: tuple[str, ...], value: Any) -> ValueError:
    text = json.dumps(value)
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return ValueError(f"{'.'.join(keys)} cannot be {shown}")
