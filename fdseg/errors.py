"""The one exception for what a user can mend, and the end that is no error."""

import signal


class FdsegError(Exception):
    """Bad input: names the file or key, says what is wrong, and what to do about it.

    The entry points print its message without a traceback and leave with status 2.
    """


class WrongPrecisionError(FdsegError):
    """A reduced precision whose results are wrong for a network on this machine."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line; its kind where it says nothing."""
    return str(error).strip().split("\n")[0] or type(error).__name__


class Stopped(Exception):
    """A run was told to end by a signal, and left a checkpoint from which it can go on.

    Args:
        number: of the signal.
        where: the run stood, for a person.
    """

    def __init__(self, number: int, where: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.number, self.where = number, where
