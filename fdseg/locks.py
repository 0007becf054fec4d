"""Locks on files, by which processes stay out of each other's way."""

import errno
import fcntl
from typing import IO


def try_lock(file: IO, *, shared: bool = False) -> bool | None:
    """Try to lock a file until it is closed or the process ends.

    Args:
        file: open.
        shared: with others who also share it.

    Returns:
        Whether this process has the lock; ``None`` where nobody can get one, as on file systems
        without locks (Lustre without ``-o flock``, some of NFS).
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True
