"""How much memory may be taken here."""

import os
import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (  # of a container or a job: its limit, and what it uses of it
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def available() -> int:
    """Bytes that can be taken without swapping, and within the limit of a container.

    Where the system does not tell (macOS), half of the machine's memory.
    """
    return min([_of_the_machine(), *_of_the_container()])


def _of_the_machine() -> int:
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_the_container() -> list[int]:
    left = []
    for limit, usage in _CGROUPS:
        try:
            left.append(int(Path(limit).read_text()) - int(Path(usage).read_text()))
        except (OSError, ValueError):  # there is no such group, or it has no limit ("max")
            continue
    return left
