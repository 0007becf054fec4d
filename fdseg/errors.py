"""The one exception that fdseg raises for what its user can mend."""


class FdsegError(Exception):
    """Bad input: names the file or key, says what is wrong, and what to do about it.

    The entry points print its message without a traceback and leave with status 2.
    """
