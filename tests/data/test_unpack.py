"""Malicious archives: no member leaves the folder, and none takes more than is in the archive."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from fdseg.data.unpack import unpack
from fdseg.errors import FdsegError


def member(name, content=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def link(name, target, kind=tarfile.SYMTYPE):
    return member(name, type=kind, linkname=target)


GOOD = member("Task/dataset.json", b"{}")


@pytest.fixture
def place(tmp_path):
    """A folder for the archive, one for what is in it, and something beside them to be kept."""
    (tmp_path / "data").mkdir()
    (tmp_path / "precious").write_text("kept")
    return tmp_path


def write(place, *members):
    with tarfile.open(place / "archive.tar", "w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return place / "archive.tar"


def everything(place):
    return {p.relative_to(place).as_posix() for p in place.rglob("*")}


def test_a_good_archive_becomes_the_folder(place):
    unpack(write(place, GOOD, member("Task/imagesTr/a", b"voxels")), place / "data" / "Task")
    assert (place / "data" / "Task" / "imagesTr" / "a").read_bytes() == b"voxels"


def test_the_folder_may_have_another_name(place):
    unpack(write(place, GOOD), place / "data" / "Other")
    assert (place / "data" / "Other" / "dataset.json").read_bytes() == b"{}"


MALICIOUS = {
    "up": ([member("../precious", b"overwritten")], r"'../precious' leaves the folder"),
    "up from within": ([member("Task/../../precious", b"!")], "leaves the folder"),
    "absolute": ([member("/tmp/fdseg-was-here", b"!")], "leaves the folder"),
    "a symbolic link out": ([link("Task/out", "../../..")], r"'Task/out' is a link to '../../..'"),
    "through a symbolic link": (
        [link("Task/out", "/tmp"), member("Task/out/fdseg-was-here", b"!")], "is a link to '/tmp'",
    ),
    "a symbolic link inside": ([link("Task/a", "dataset.json")], "is a link"),
    "a hard link out": ([link("Task/a", "../precious", tarfile.LNKTYPE)], "is a link"),
    "a hard link to a secret": ([link("Task/a", "/etc/passwd", tarfile.LNKTYPE)], "is a link"),
    "a device": ([member("Task/a", type=tarfile.CHRTYPE, devmajor=1)], "neither file nor folder"),
    "a block device": ([member("Task/a", type=tarfile.BLKTYPE)], "neither file nor folder"),
    "a pipe": ([member("Task/a", type=tarfile.FIFOTYPE)], "neither file nor folder"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALICIOUS)
@pytest.mark.parametrize("first", [True, False])
def test_a_malicious_member_is_named_and_nothing_stays(place, kind, first):
    members, words = MALICIOUS[kind]
    archive = write(place, *((*members, GOOD) if first else (GOOD, *members)))
    before = everything(place)
    with pytest.raises(FdsegError, match=rf"archive.tar: its member .*{words}"):
        unpack(archive, place / "data" / "Task")
    assert everything(place) == before
    assert (place / "precious").read_text() == "kept"
    assert not Path("/tmp/fdseg-was-here").exists()


def test_a_file_with_holes_cannot_pretend_to_be_large(place):
    # An old GNU sparse member: 512 bytes in the archive, 8 GiB when unpacked.
    info = tarfile.TarInfo("Task/large")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"00000000000\0" + b"00000000000\0"  # one piece, of nothing
    block[483:495] = b"%011o\0" % (2**33 - 1)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (place / "archive.tar").write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(FdsegError, match=r"'Task/large' says it has 8589934591 bytes, which are"):
        unpack(place / "archive.tar", place / "data" / "Task")
    assert everything(place / "data") == set()


def test_a_member_of_negative_size_does_not_go_round_in_circles(place):
    info = tarfile.TarInfo("Task/a")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (-512).to_bytes(12, "big", signed=True)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    (place / "archive.tar").write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(FdsegError, match=r"archive.tar: "):
        unpack(place / "archive.tar", place / "data" / "Task")
    assert everything(place / "data") == set()


def test_a_compressed_archive_is_refused_whatever_it_unpacks_to(place):
    archive = write(place, GOOD)
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with pytest.raises(FdsegError, match=r"archive.tar: not a tar archive"):
        unpack(archive, place / "data" / "Task")


@pytest.mark.parametrize("kept", [0, 100, 600, 1200])
def test_an_archive_that_is_cut_off_leaves_nothing(place, kept):
    archive = write(place, GOOD, member("Task/a", bytes(5000)))
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(FdsegError, match=r"archive.tar: "):
        unpack(archive, place / "data" / "Task")
    assert everything(place / "data") == set()


@pytest.mark.parametrize("members", [[], [member("file", b"x")], [GOOD, member("Other/a", b"x")]])
def test_an_archive_of_no_or_several_folders_is_refused(place, members):
    with pytest.raises(FdsegError, match=r"[02] folders in it, where the cohort's alone is"):
        unpack(write(place, *members), place / "data" / "Task")
    assert everything(place / "data") == set()


def test_files_are_neither_executable_nor_anothers(place):
    unpack(write(place, member("Task/a", b"x", mode=0o6777, uid=12345)), place / "data" / "Task")
    state = (place / "data" / "Task" / "a").stat()
    assert state.st_mode & 0o7022 == 0
