"""Progress bars with the time left."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(
    items: Iterable | None, title: str, unit: str, *, leave: bool = False, **options: Any
) -> tqdm:
    """A bar that is drawn often on a terminal, and seldom in the file of a job."""
    interval = 0.2 if sys.stderr.isatty() else 30
    return tqdm(items, title, unit=unit, mininterval=interval, leave=leave, **options)
