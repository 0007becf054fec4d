"""Which values the keys of a configuration may have, whether a run uses them or not.

Nothing large is imported here: the status of a sweep asks for every run.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fdseg.errors import FdsegError


@dataclass(frozen=True)
class Rule:
    """The values that a key may have.

    Attributes:
        expected: these values, for a person.
        accepts: tells whether a plain value (lists are lists) is one of them.
    """

    expected: str
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_theta(value: Any) -> bool:
    values = value if isinstance(value, Sequence) else [value] * 3
    return len(values) == 3 and all(_is_number(theta) and 0 < theta <= 1 for theta in values)


def _is_limit(value: Any) -> bool:
    return value is None or (_is_number(value) and value > 0 and (_is_whole(value) or value <= 1))


def _whole(least: int, most: float = math.inf) -> Rule:
    limits = f", {least} or more" if most == math.inf else f" from {least} to {most}"
    return Rule(f"a whole number{limits}", lambda n: _is_whole(n) and least <= n <= most)


def _one_of(*options: Any) -> Rule:
    def accepts(value: Any) -> bool:
        return any(type(value) is type(option) and value == option for option in options)

    *first, last = (str(o).lower() if isinstance(o, bool) else str(o) for o in options)
    return Rule(f"{', '.join(first)} or {last}", accepts)


def _or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or null", lambda value: value is None or rule.accepts(value))


_POSITIVE = Rule("a positive number", lambda value: _is_number(value) and value > 0)
_NOT_NEGATIVE = Rule("a number, 0 or more", lambda value: _is_number(value) and value >= 0)
_TRUE_OR_FALSE = _one_of(True, False)
_UNLABELLED = _one_of("error", "leave_out")
_SEED = _whole(0, 2**63 - 1)  # what generators of random numbers take
_THETA = Rule(
    "one number in (0, 1] for x and y, or one per axis, such as theta=0.1 or theta=[0.1,0.1,1]",
    _is_theta,
)
_LIMIT = Rule("a whole number, 1 or more, or a fraction above 0", _is_limit)
_DROPOUT = Rule(  # other networks' options of that name may be no numbers
    "a number from 0 to below 1", lambda value: not _is_number(value) or 0 <= value < 1
)

_PRECISIONS = (
    *("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "bf16"),
    *(32, 16, 64, "32", "16", "64", "transformer-engine", "transformer-engine-float16"),
)

#: The rule of each key; keys that a configuration does not have are not asked for.
RULES = {
    "n": _whole(1),
    "seed": _SEED,
    "checkpoint": _one_of("best", "last"),
    "theta": _THETA,
    "split.theta": _THETA,
    "split.mask.theta": _THETA,
    "split.mask.mask.theta": _THETA,
    "split.mask.order": _POSITIVE,
    "split.mask.seed": _SEED,
    "split.softness": _POSITIVE,
    "split.band": _one_of("low", "high"),
    "loader.batch_size": _whole(1),
    "loader.workers": _whole(0),
    "loader.in_ram": _TRUE_OR_FALSE,
    "optimizer.lr": _POSITIVE,
    "optimizer.momentum": _NOT_NEGATIVE,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "backbone.features": _whole(1),
    "backbone.multiple_of": _whole(1),
    "backbone.minimum": _whole(1),
    "backbone.network.levels": _whole(1),
    "backbone.network.dropout": _DROPOUT,
    "trainer.max_epochs": _whole(1),
    "trainer.precision": Rule(
        f"{', '.join(map(str, _PRECISIONS[:7]))} or another name of Lightning's",
        _one_of(*_PRECISIONS).accepts,
    ),
    "trainer.check_val_every_n_epoch": _whole(1),
    "trainer.num_sanity_val_steps": _whole(-1),
    "trainer.log_every_n_steps": _whole(0),
    "trainer.limit_train_batches": _LIMIT,
    "trainer.limit_val_batches": _LIMIT,
    "trainer.limit_test_batches": _LIMIT,
    "trainer.deterministic": _or_null(_one_of(True, False, "warn")),
    "callbacks.best.mode": _one_of("max", "min"),
    "callbacks.last.every_n_epochs": _whole(0),
    "callbacks.divergence.factor": _POSITIVE,
    "callbacks.spectra.cases": _whole(1),
    "callbacks.spectra.bands": _whole(1),
    "scores.definition": _one_of("pooled", "max_of_directed"),
    "scores.empty": Rule(  # Hydra reads a plain inf as a number
        """diagonal, or "inf" in quotes ('scores.empty="inf"')""",
        _one_of("diagonal", "inf").accepts,
    ),
    "scores.neighbours": _one_of(6, 26),
    "scores.tolerance_mm": _NOT_NEGATIVE,
    "data.size": Rule(
        "three whole numbers, 1 or more, such as [64,64,32]",
        lambda value: (
            isinstance(value, list) and len(value) == 3 and all(map(_whole(1).accepts, value))
        ),
    ),
    "data.reshape": _one_of("crop_or_pad", "resize"),
    "data.unlabelled": _UNLABELLED,
    "data.cohort.unlabelled": _UNLABELLED,
    "data.exclude": Rule("a list of names, such as [a,b]", lambda value: isinstance(value, list)),
    "data.ignore": Rule(
        "a list of whole numbers, such as [1,2]",
        lambda value: isinstance(value, list) and all(map(_is_whole, value)),
    ),
    "data.split.training": _whole(1),
    "data.split.validation": _whole(1),
    "data.split.test": _whole(1),
    "data.split.by": _one_of("participant", "file"),
    "data.split.seed": _whole(0),
    "data.phantom.scale": Rule(
        "a number in (0, 1]; 1 is the native resolution",
        lambda value: _is_number(value) and 0 < value <= 1,
    ),
    "data.phantom.seed": _whole(0),
    "data.phantom.subjects": _or_null(_whole(1)),
    "download": _TRUE_OR_FALSE,
    "resample": _TRUE_OR_FALSE,
}


def require_value(key: str, value: Any) -> None:
    """Refuse a value that its key can never have.

    Args:
        key: dotted, one of :data:`RULES`.
        value: plain; lists are lists.

    Raises:
        FdsegError: names the key and the values it may have.
    """
    rule = RULES[key]
    if not rule.accepts(value):
        shown = f"[{','.join(map(str, value))}]" if isinstance(value, list | tuple) else value
        raise FdsegError(f"{key}={'null' if value is None else shown}: expected {rule.expected}.")
