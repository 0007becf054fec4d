"""Archives of cohorts from the web: resumed where a connection broke, and verified whole."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from fdseg.data.unpack import unpack
from fdseg.errors import FdsegError
from fdseg.locks import try_lock
from fdseg.progress import progress

_TIMEOUT_S = 30.0  # without a byte
_PAUSES_S = (1, 3, 10, 30)  # before trying again; as many attempts may bring nothing
_CHUNK = 2**20


class _Broken(Exception):
    """The connection ended before the file did, or the server is busy."""


@dataclass(frozen=True)
class Archive:
    """A tar archive that holds one cohort's folder.

    Args:
        url: of the archive, ``http`` or ``https``; its name is that of the folder, and ``.tar``.
        md5: of the archive, in hexadecimal digits.
    """

    url: str
    md5: str

    @property
    def folder(self) -> str:
        """Name of the folder in the archive."""
        return PurePosixPath(urlsplit(self.url).path).stem

    def fetch(self, root: Path) -> Path:
        """The cohort's folder below ``root``, downloaded unless it is there.

        It appears when all of it is verified and unpacked. What was downloaded when a connection
        broke or a process was killed is kept, and the next call goes on from there, if the server
        still has the same file.

        Raises:
            FdsegError: the server does not have the archive or keeps breaking off, its content is
                another, it would unpack to other places, or the disk is full.
        """
        folder = root / self.folder
        if folder.is_dir():
            return folder
        if urlsplit(self.url).scheme not in ("http", "https") or not self.folder:
            raise FdsegError(f"data.archive.url={self.url}: expected http(s)://…/<folder>.tar")
        try:
            root.mkdir(parents=True, exist_ok=True)
            with _only_process(root / f".{self.folder}.tar.partial") as file:
                if not folder.is_dir():  # another process may just have finished
                    self._download(file)
                    self._verify(file)
                    unpack(Path(file.name), folder)
                _remove(file)
        except OSError as error:
            raise FdsegError(
                f"{folder}: cannot be downloaded ({error.strerror or error}). Free some space or "
                "choose another folder with data.root=…; what was downloaded so far is kept."
            ) from None
        return folder

    def _download(self, file: IO[bytes]) -> None:
        fruitless, most = 0, file.seek(0, 2)
        with progress(None, f"Downloading {self.folder}", "B", unit_scale=True) as bar:
            while True:
                try:
                    self._request(file, bar)
                    return
                except _Broken as error:
                    reached = file.seek(0, 2)
                    fruitless, most = (0, reached) if reached > most else (fruitless + 1, most)
                    if fruitless > len(_PAUSES_S):
                        raise FdsegError(
                            f"{self.url}: {error}, after {reached / 1e6:.1f} MB. Try again later; "
                            "the same command goes on from there."
                        ) from None
                    time.sleep(_PAUSES_S[max(fruitless - 1, 0)])

    def _request(self, file: IO[bytes], bar: tqdm) -> None:
        """Ask for what is missing and append it; begin anew where the server's file changed."""
        have, version = file.seek(0, 2), _read_version(file, self.url)
        headers = {}
        if have and version:
            headers = {"Range": f"bytes={have}-", "If-Range": version}
        try:
            response: HTTPResponse = urlopen(Request(self.url, headers=headers), timeout=_TIMEOUT_S)
        except HTTPError as error:
            if error.code == 416:  # the server's file is no longer than ours: another, or complete
                if error.headers.get("Content-Range") == f"bytes */{have}":
                    return
                file.truncate(0)
                raise _Broken("the server's file has become shorter") from None
            if error.code == 429 or error.code >= 500:
                raise _Broken(f"the server answers {error.code} {error.reason}") from None
            raise FdsegError(
                f"{self.url}: the server answers {error.code} {error.reason}. Correct "
                "data.archive.url, or unpack the archive below data.root by hand."
            ) from None
        except (OSError, HTTPException) as error:
            raise _Broken(f"no connection ({getattr(error, 'reason', error)})") from None
        with response:
            if response.status != 206 or not response.headers.get("Content-Range", "").startswith(
                f"bytes {have}-"
            ):
                have = 0
                file.truncate(0)
            _write_version(file, self.url, response.headers)
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            _require_space(file, have, total)
            bar.total, bar.n = total, have
            self._append(file, response, bar)
        if total is not None and file.seek(0, 2) < total:
            raise _Broken("the connection broke")

    def _append(self, file: IO[bytes], response: HTTPResponse, bar: tqdm) -> None:
        file.seek(0, 2)
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, HTTPException):
                raise _Broken("the connection broke") from None
            if not chunk:
                break
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()

    def _verify(self, file: IO[bytes]) -> None:
        file.seek(0)
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]
        if found != self.md5:
            _remove(file)
            raise FdsegError(
                f"{self.url}: its MD5 is {found}, not {self.md5}, so it was removed. Try again; if "
                "it stays so, the server has another archive than data.archive.md5 says."
            )


@contextmanager
def _only_process(path: Path) -> Iterator[IO[bytes]]:
    """The file, to go on with; the system lets go of it when the process ends."""
    with path.open("ab+") as file:
        if try_lock(file) is False:
            raise FdsegError(
                f"{path}: another process downloads this archive. Wait for it, or end it."
            )
        try:
            yield file
        finally:
            if not file.seek(0, 2):
                _remove(file)


def _require_space(file: IO[bytes], have: int, total: int | None) -> None:
    """For the rest of the archive, and for its files beside it."""
    free = shutil.disk_usage(Path(file.name).parent).free
    if total is not None and free < (needed := 2 * total - have):
        raise FdsegError(
            f"{Path(file.name).parent}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB "
            "are free. Free some space or choose another folder with data.root=…"
        )


def _version_file(file: IO[bytes]) -> Path:
    return Path(f"{file.name}.json")


def _read_version(file: IO[bytes], url: str) -> str | None:
    """By which the server tells whether it still has the file that was begun."""
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(_version_file(file).read_text())
        if content.get("url") == url:
            return content.get("version")
    return None


def _write_version(file: IO[bytes], url: str, headers: HTTPMessage) -> None:
    tag = headers.get("ETag", "")
    strong = tag if tag.startswith('"') else None  # a weak one does not promise the same bytes
    version = strong or headers.get("Last-Modified")
    _version_file(file).write_text(json.dumps({"url": url, "version": version}))


def _remove(file: IO[bytes]) -> None:
    for path in (Path(file.name), _version_file(file)):
        path.unlink(missing_ok=True)
