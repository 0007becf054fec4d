"""The one exception for what a user can mend, and the end that is no error."""

import errno
import signal
from pathlib import Path

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FdsegError(Exception):
    """Bad input: names the file or key, says what is wrong, and what to do about it.

    The entry points print its message without a traceback and leave with status 2.
    """


class WrongPrecisionError(FdsegError):
    """A reduced precision whose results are wrong for a network on this machine."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its kind where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__


class NotWritten(OSError):
    """A file could not be written; names it under its own name."""


def not_written(error: BaseException) -> FdsegError | None:
    """Say what could not be written, where that is what an error comes from; else ``None``.

    Libraries raise errors of their own from the system's.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, FdsegError):
        is_full = isinstance(cause, OSError) and cause.errno in _NO_SPACE
        if isinstance(cause, OSError) and (is_full or isinstance(cause, NotWritten)):
            remedy = "Free some space" if is_full else "Choose a folder that can be written"
            return FdsegError(
                f"{_place(cause)}. {remedy}, and repeat the command; what is whole stays."
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _place(error: OSError) -> str:
    if not error.filename:
        return f"{error.strerror}"
    folder = Path(error.filename).absolute().parent
    disk = next(path for path in (folder, *folder.parents) if path.is_mount())
    return f"{folder}: cannot be written ({error.strerror}; the disk is {disk})"


class Stopped(Exception):
    """A run was told to end by a signal, and left a checkpoint from which it can go on.

    Args:
        number: of the signal.
        where: the run stood, for a person.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.number, self.where = number, where
