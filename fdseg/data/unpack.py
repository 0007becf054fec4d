"""Unpacking an archive so that nothing lands outside of its folder, and all of it or nothing."""

import os
import tarfile
from pathlib import Path, PurePosixPath

from fdseg.drafts import draft
from fdseg.errors import FdsegError

_END = 1024  # zeros at the end of every tar archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive of one folder, which becomes ``folder``.

    Only files and folders are taken, no links, devices, or files with holes. The folder gets its
    name when all is on the disk.

    Raises:
        FdsegError: the archive is broken, a member would lie elsewhere or is something else, or
            there is not exactly one folder in it.
        OSError: the disk is full, or cannot be written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise FdsegError("Python 3.11.4 or later is needed to unpack archives safely. Update it.")
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - _END))
        if file.read() != bytes(_END):  # tarfile takes a header that is cut off for the end
            raise FdsegError(f"{archive}: not a tar archive, or cut off. Remove it.")
    try:
        # "r:" is a plain tar: what is compressed may unpack to any size.
        with draft(folder) as partial, tarfile.open(archive, "r:") as members:
            partial.mkdir()
            for member in members:
                if PurePosixPath(member.name).name.startswith("._"):
                    continue  # what macOS adds to archives
                if fault := _fault(member):
                    raise FdsegError(
                        f"{archive}: its member {member.name!r} {fault}. This is no archive of a "
                        "cohort; remove it."
                    )
                members.extract(member, partial, filter="data")
            tops = [path for path in partial.iterdir() if path.is_dir()]
            if len(tops) != 1:
                raise FdsegError(
                    f"{archive}: {len(tops)} folders in it, where the cohort's alone is expected."
                )
            os.sync()  # a lost power supply leaves no empty file under the folder's name
            tops[0].rename(folder)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise FdsegError(f"{archive}: not a readable tar archive ({error}). Remove it.") from None


def _fault(member: tarfile.TarInfo) -> str | None:
    """Why a member is not unpacked; the standard library's own filter comes on top of this."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "leaves the folder"
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname!r}"
    if not (member.isreg() or member.isdir()):
        return "is neither file nor folder"
    if member.issparse() or member.size < 0:
        return f"says it has {member.size} bytes, which are not in the archive"
    return None
