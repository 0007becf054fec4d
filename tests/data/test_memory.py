from types import SimpleNamespace

import psutil
import pytest

from fdseg.data import memory

MACHINE = 4_000_000


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Writes what control groups say; at first there is none, and the machine has 4 MB free."""
    machine = SimpleNamespace(available=MACHINE)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "groups")

    def write(folder, limit, usage, names=("memory.max", "memory.current")):
        folder = tmp_path / "groups" / folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, usage), strict=True):
            (folder / name).write_text(f"{value}\n")

    return write


def test_what_the_machine_has_free_is_available(group):
    assert memory.available() == MACHINE


def test_a_containers_limit_counts_where_it_leaves_less(group, tmp_path):
    (tmp_path / "own").write_text("0::/job/step\n")
    group("job/step", 3_000_000, 1_000_000)
    assert memory.available() == 2_000_000
    group("job/step", 99_000_000, 1_000_000)
    assert memory.available() == MACHINE


def test_the_limit_of_a_group_above_counts_too(group, tmp_path):
    (tmp_path / "own").write_text("0::/job/step\n")
    group("job/step", "max", 1_000_000)
    group("job", 3_000_000, 2_500_000)
    assert memory.available() == 500_000


def test_the_older_version_of_groups_counts_too(group, tmp_path):
    (tmp_path / "own").write_text("8:cpu,cpuacct:/\n9:memory:/slurm/job\n1:name=systemd:/\n")
    names = "memory.limit_in_bytes", "memory.usage_in_bytes"
    group("memory/slurm/job", 3_000_000, 1_000_000, names)
    group("memory", 9223372036854771712, 2_000_000, names)
    assert memory.available() == 2_000_000


@pytest.mark.parametrize("own", ["", "nonsense", "0::/elsewhere\n", "0::/../..\n"])
def test_without_groups_the_machine_alone_counts(group, tmp_path, own):
    (tmp_path / "own").write_text(own)
    assert memory.available() == MACHINE
