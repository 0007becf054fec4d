"""Temporary names under which files and folders are written, and what killed processes leave."""

import functools
import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATTERN = ".*.partial"
_NAME = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-\d+\.partial")
_DAY_S = 86400  # no file is written for so long without a change
_numbers = itertools.count()


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``, for a file or folder that is to be renamed to it.

    What is left under that name is removed at the end. A process that is killed cannot do that, so
    the first draft of a process in a folder removes those of processes that have ended.
    """
    _remove_once(path.parent)
    number = f"{_machine()}-{os.getpid()}-{next(_numbers)}"
    partial = path.with_name(f".{path.name}.{number}.partial")
    try:
        yield partial
    finally:
        _remove(partial)


def remove_abandoned(folder: Path, locked: bool = False) -> None:
    """Remove the drafts in a folder whose process has ended.

    A process of another machine counts as ended when its draft has not changed for a day.

    Args:
        folder: that holds the drafts.
        locked: this process has just locked the folder. Then drafts below it are looked at too, and
            processes of other machines have ended. A process of this machine that still runs keeps
            its drafts even so: other commands than training write there without the lock.
    """
    for path in folder.rglob(_PATTERN) if locked else folder.glob(_PATTERN):
        found = _NAME.fullmatch(path.name)
        if found and (_is_old(path) or _has_ended(found[1], int(found[2]), locked)):
            _remove(path)


_remove_once = functools.cache(remove_abandoned)  # a folder may be large


def _is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _DAY_S
    return False


def _has_ended(machine: str, process: int, locked: bool) -> bool:
    if machine != _machine() or process == os.getpid():  # containers begin with the same numbers
        return locked
    import psutil  # drafts of others are rare, and --help is to answer at once

    return not psutil.pid_exists(process)


@functools.cache
def _machine() -> str:
    """Eight digits for all processes that this one can see: of its machine, and its container."""
    with suppress(OSError):
        return _digits(platform.node(), os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return _digits(platform.node())


def _digits(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
