"""Pictures, which may fail where what they show may not."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdseg.errors import first_line


@contextmanager
def optional(path: Path, what: str = "picture") -> Iterator[None]:
    """Turn what goes wrong with a picture into one warning.

    Args:
        path: of the picture.
        what: to call it.
    """
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None)
        reason = reason or f"{type(error).__name__}: {first_line(error).rstrip('.')}"
        warnings.warn(
            f"{path}: this {what} could not be made ({reason}). All else is complete.",
            stacklevel=3,  # whoever made it, beyond contextlib
        )
