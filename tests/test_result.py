"""What counts as the whole result of a run, and what does not."""

import json
import math
import re

import pytest
from synthetic import RESULT

from fdseg.result import require_whole

MISSING = object()


def changed(key, value):
    """The result with another value at a dotted key."""
    result = json.loads(json.dumps(RESULT))
    *parents, last = key.split(".")
    node = result
    for parent in parents:
        node = node[parent]
    if value is MISSING:
        del node[last]
    else:
        node[last] = value
    return json.loads(json.dumps(result))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("theta", None), ("theta", [0.1, 0.2, 1]), ("learned_theta", 0.2), ("seed", 10**18),
        ("validation.dice", 0), ("test.dice.mean", 1), ("test.missed", 3),
        ("test.dice.sem", None),  # of one subject
        # scores.empty=inf
        ("test.hd95_mm", {"mean": math.inf, "sem": math.nan}),
        ("test.structures.left_atrium.hd95_mm", {"mean": math.inf, "sem": None}),
    ],
)  # fmt: skip
def test_what_training_can_write_is_whole(key, value):
    require_whole(changed(key, value))


@pytest.mark.parametrize("result", [None, [], "done", 1])
def test_what_is_no_mapping_is_no_result(result):
    with pytest.raises(ValueError, match="it is no JSON mapping"):
        require_whole(result)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("task", None, "null"), ("phantom", 0, "0"), ("backbone", {}, "{}"), ("fusion", 1, "1"),
        ("n", 0, "0"), ("n", "4", '"4"'), ("n", True, "true"), ("n", 4.0, "4.0"),
        ("seed", -1, "-1"), ("seed", 10**30, str(10**30)),
        ("validation", None, "null"), ("validation.dice", math.nan, "NaN"),
        ("validation.dice", "0.7", '"0.7"'), ("validation.dice", True, "true"),
        ("test", 1, "1"), ("test.subjects", 0, "0"), ("test.missed", None, "null"),
        ("test.dice", 0.8, "0.8"), ("test.dice.mean", 1.01, "1.01"),
        ("test.dice.mean", -0.1, "-0.1"), ("test.dice.mean", math.inf, "Infinity"),
        ("test.dice.sem", math.nan, "NaN"), ("test.hd95_mm.mean", math.nan, "NaN"),
        ("test.hd95_mm.mean", 10**400, "1" + 39 * "0" + "…"), ("test.nsd.sem", "0", '"0"'),
        ("test.structures", [], "[]"), ("test.structures", {}, "{}"),
        ("test.structures.left_atrium", None, "null"),
        ("test.structures.left_atrium.nsd.mean", [0.9], "[0.9]"),
    ],
)  # fmt: skip
def test_what_training_cannot_write_is_named(key, value, shown):
    message = re.escape(f"{key} cannot be {shown}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        require_whole(changed(key, value))


@pytest.mark.parametrize(
    "key",
    [*RESULT, "validation.dice", *(f"test.{key}" for key in RESULT["test"]), "test.dice.mean",
     "test.nsd.sem", "test.structures.left_atrium.hd95_mm"],
)  # fmt: skip
def test_what_is_missing_is_named(key):
    with pytest.raises(ValueError, match=f"^{re.escape(key)} is missing$"):
        require_whole(changed(key, MISSING))
