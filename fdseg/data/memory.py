"""How much memory may be taken here."""

from pathlib import Path

import psutil

_OWN = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that can be taken without swapping, and within the limits of a container or a job."""
    return min([psutil.virtual_memory().available, *_free_in_groups()])


def _free_in_groups() -> list[int]:
    """What Linux's control groups, as of Docker and Slurm, leave this process, in both versions."""
    free = []
    try:
        for line in _OWN.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if not controllers:
                root, limit, usage = _GROUPS, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                root, limit, usage = (
                    _GROUPS / "memory",
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                )
            else:
                continue
            group = root / own.strip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(root) and (folder / limit).is_file():
                    most = (folder / limit).read_text().strip()
                    if most != "max":
                        free.append(int(most) - int((folder / usage).read_text()))
    except (OSError, ValueError):  # another system
        return []
    return free
