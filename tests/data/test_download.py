"""Archives from a server of our own, with every fault that a connection can have."""

import errno
import fcntl
import hashlib
import io
import json
import multiprocessing
import re
import shutil
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fdseg.data import download
from fdseg.data.download import Archive
from fdseg.errors import FdsegError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
FILES = {"dataset.json": b"{}", "imagesTr/a.nii.gz": CONTENT, "labelsTr/a.nii.gz": b"label"}


def tar_of(files, folder="Task77_Toy"):
    """A tar archive as the MSD's are made, on macOS."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in {"._": b"", "imagesTr/._a.nii.gz": b"macOS", **files}.items():
            member = tarfile.TarInfo(f"./{folder}/{name}" if name != "._" else f"./._{folder}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


TAR = tar_of(FILES)


class Server(ThreadingHTTPServer):
    """Serves one archive, or its beginning, and keeps what it was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.modified = TAR, '"one"', None
        self.ranges = True
        self.breaks = []  # after how many bytes each of the next answers ends
        self.statuses = []  # what the next answers are instead
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data/Task77_Toy.tar"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted, version = self.headers.get("Range"), self.headers.get("If-Range")
        server.asked.append((wanted, version))
        if server.statuses and (status := server.statuses.pop(0)):
            self.send_error(status)
            return
        start = 0
        if server.ranges and wanted and version in (server.tag, server.modified):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.modified:
            self.send_header("Last-Modified", server.modified)
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_PAUSES_S", (0, 0))
    with Server() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def archive(server, content=TAR):
    return Archive(server.url, hashlib.md5(content).hexdigest())


def assert_complete(root):
    """The cohort is there, all of it, and nothing else is."""
    folder = root / "Task77_Toy"
    there = {p.relative_to(folder).as_posix(): p.read_bytes()
             for p in folder.rglob("*") if p.is_file()}  # fmt: skip
    assert there == FILES
    assert [p.name for p in root.iterdir()] == ["Task77_Toy"]


def test_an_archive_becomes_its_folder_and_leaves_nothing_else(server, root):
    assert archive(server).fetch(root) == root / "Task77_Toy"
    assert_complete(root)
    assert server.asked == [(None, None)]


def test_a_folder_that_is_there_is_not_fetched(server, root):
    (root / "Task77_Toy").mkdir(parents=True)
    assert archive(server).fetch(root) == root / "Task77_Toy"
    assert server.asked == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, root):
    server.breaks = [1_000_000, 500_000, 7]
    archive(server).fetch(root)
    assert_complete(root)
    places = ("bytes=1000000-", "bytes=1500000-", "bytes=1500007-")
    assert server.asked == [(None, None), *((place, '"one"') for place in places)]


def test_what_one_command_left_the_next_goes_on_with(server, root):
    server.breaks = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(FdsegError, match=r"the connection broke, after 1.0 MB.* goes on from"):
        archive(server).fetch(root)
    assert not (root / "Task77_Toy").exists()
    server.asked.clear()
    server.breaks = []
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked == [("bytes=1000000-", '"one"')]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, root):
    server.breaks = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(FdsegError):
        archive(server).fetch(root)
    other = tar_of(FILES | {"extra": b"new"})
    server.content, server.tag, server.breaks = other, '"two"', []
    archive(server, other).fetch(root)
    assert (root / "Task77_Toy" / "extra").read_bytes() == b"new"
    assert server.asked[-1] == ("bytes=1000000-", '"one"')


def test_without_a_tag_the_time_of_change_tells(server, root):
    server.tag, server.modified = None, "Wed, 21 Oct 2015 07:28:00 GMT"
    server.breaks = [1_000_000]
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked[-1] == ("bytes=1000000-", "Wed, 21 Oct 2015 07:28:00 GMT")


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_where_nothing_tells_the_version_it_is_fetched_anew(server, root, tag):
    server.tag, server.breaks = tag, [1_000_000]
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked == [(None, None)] * 2


def test_a_server_without_ranges_is_asked_for_all_again(server, root):
    server.ranges, server.breaks = False, [1_000_000]
    archive(server).fetch(root)
    assert_complete(root)


def test_a_busy_server_is_asked_again(server, root):
    server.statuses = [503, 429]
    archive(server).fetch(root)
    assert_complete(root)


def test_a_server_that_stays_busy_is_given_up_in_words(server, root):
    server.statuses = [503] * 10
    with pytest.raises(FdsegError, match=r"the server answers 503 Service Unavailable, after 0.0"):
        archive(server).fetch(root)
    assert len(server.asked) == 3
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404])
def test_an_archive_that_is_not_there_is_named_at_once(server, root, status):
    server.statuses = [status]
    with pytest.raises(FdsegError, match=rf"Task77_Toy.tar: the server answers {status} .*url, or"):
        archive(server).fetch(root)
    assert len(server.asked) == 1
    assert list(root.iterdir()) == []


def test_a_server_that_is_not_there_is_named(server, root):
    gone = Archive("http://127.0.0.1:9/Task77_Toy.tar", "0")
    with pytest.raises(FdsegError, match=r"127.0.0.1:9/Task77_Toy.tar: no connection \("):
        gone.fetch(root)


def test_a_wrong_checksum_leaves_nothing_behind(server, root):
    server.content = TAR[:-1000] + b"x" + TAR[-999:]
    with pytest.raises(FdsegError, match=r"its MD5 is \w{32}, not \w{32}, so it was removed"):
        archive(server).fetch(root)
    assert list(root.iterdir()) == []
    server.content = TAR
    archive(server).fetch(root)
    assert_complete(root)


def test_what_is_complete_but_was_not_unpacked_is_not_fetched_again(server, root):
    root.mkdir()
    (root / ".Task77_Toy.tar.partial").write_bytes(TAR)
    (root / ".Task77_Toy.tar.partial.json").write_text(
        json.dumps({"url": server.url, "version": '"one"'})
    )
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked == [(f"bytes={len(TAR)}-", '"one"')]


def test_what_is_longer_than_the_servers_file_is_fetched_anew(server, root):
    root.mkdir()
    (root / ".Task77_Toy.tar.partial").write_bytes(TAR + b"more")
    (root / ".Task77_Toy.tar.partial.json").write_text(
        json.dumps({"url": server.url, "version": '"one"'})
    )
    archive(server).fetch(root)
    assert_complete(root)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"url": "http://elsewhere", "version": "\\"one\\""}']
)
def test_a_beginning_of_unknown_origin_is_not_trusted(server, root, text):
    root.mkdir()
    (root / ".Task77_Toy.tar.partial").write_bytes(b"of something else")
    (root / ".Task77_Toy.tar.partial.json").write_text(text)
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked == [(None, None)]


def test_a_disk_without_room_is_named_before_anything_is_fetched(server, root, monkeypatch):
    usage = shutil.disk_usage(root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4_000_000))
    with pytest.raises(FdsegError, match=r"0.0 GB are needed and 0.0 GB are free. Free some"):
        archive(server).fetch(root)
    assert list(root.iterdir()) == []


class FullDisk:
    """A file on a disk that takes only so much."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, chunk):
        self.room -= len(chunk)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(chunk)


def test_a_disk_that_fills_up_keeps_what_is_there_and_the_next_command_goes_on(
    server, root, monkeypatch
):
    append = Archive._append
    with monkeypatch.context() as patch:
        patch.setattr(
            Archive, "_append",
            lambda self, file, *rest: append(self, FullDisk(file, 2_500_000), *rest),
        )  # fmt: skip
        with pytest.raises(FdsegError, match=r"\(No space left on device\). Free some.*is kept"):
            archive(server).fetch(root)
    assert not (root / "Task77_Toy").exists()
    archive(server).fetch(root)
    assert_complete(root)
    assert server.asked[-1][0] == "bytes=2097152-"


def test_a_disk_that_fills_up_while_unpacking_leaves_no_folder(server, root, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "makefile", full)
        with pytest.raises(FdsegError, match=r"Task77_Toy: cannot be downloaded \(No space left"):
            archive(server).fetch(root)
    assert {p.name for p in root.iterdir()} == {
        ".Task77_Toy.tar.partial", ".Task77_Toy.tar.partial.json",
    }  # fmt: skip
    archive(server).fetch(root)
    assert_complete(root)


def hold(path, ready, done):
    with download._only_process(path) as file:
        file.write(b"some")
        file.flush()
        ready.set()
        done.wait(timeout=60)


def test_two_processes_do_not_write_to_one_file(server, root):
    root.mkdir()
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    path = root / ".Task77_Toy.tar.partial"
    other = context.Process(target=hold, args=(path, ready, done), daemon=True)
    other.start()
    assert ready.wait(timeout=60)
    with pytest.raises(FdsegError, match=r"another process downloads this archive\. Wait for it"):
        archive(server).fetch(root)
    done.set()
    other.join(timeout=30)
    archive(server).fetch(root)
    assert_complete(root)


def test_a_file_system_without_locks_is_no_other_download(server, root, monkeypatch):
    def no_lock(file, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    archive(server).fetch(root)
    assert_complete(root)


@pytest.mark.parametrize(
    "url", ["file:///etc/Task.tar", "ftp://x/Task.tar", "Task.tar", "http://x/"]
)
def test_only_the_web_is_asked(root, url):
    with pytest.raises(FdsegError, match=r"data.archive.url=.*: expected http"):
        Archive(url, "0").fetch(root)


def test_a_place_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FdsegError, match=r"cannot be downloaded \(.*data.root=…"):
        archive(server).fetch(Path(tmp_path / "file" / "data"))
