import os

import pytest

from fdseg.data import memory


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The system's files on memory, to be written; none is there at first."""
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "limit", tmp_path / "usage"),))
    return tmp_path


def test_what_the_kernel_calls_available_is(files):
    (files / "meminfo").write_text("MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  4000 kB\n")
    assert memory.available() == 4000 * 1024


def test_a_containers_limit_counts_where_it_is_lower(files):
    (files / "meminfo").write_text("MemAvailable:  4000 kB\n")
    (files / "limit").write_text("3000000\n")
    (files / "usage").write_text("1000000\n")
    assert memory.available() == 2_000_000
    (files / "limit").write_text("999999999999\n")
    assert memory.available() == 4000 * 1024


def test_a_container_without_a_limit_does_not_count(files):
    (files / "meminfo").write_text("MemAvailable:  4000 kB\n")
    (files / "limit").write_text("max\n")
    (files / "usage").write_text("1000000\n")
    assert memory.available() == 4000 * 1024


@pytest.mark.parametrize("text", [None, "MemTotal:  9000 kB\n"])
def test_a_system_that_does_not_tell_gives_half_of_what_it_has(files, text):
    if text:
        (files / "meminfo").write_text(text)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.available() == total // 2
