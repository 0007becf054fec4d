"""What a folder of predictions holds: by what each file was made, and whether it still is that."""

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fdseg.drafts import draft, remove_abandoned
from fdseg.errors import FdsegError
from fdseg.runs import read_json, sha256, write_json

# Of one volume, in the order in which they are removed; they appear in the opposite one.
_NAMES = {"labels": "{}.nii.gz", "probabilities": "{}_probabilities.npz", "overlay": "{}.png"}


State = Literal["done", "missing", "stale", "other volume", "other runs"]


class OtherRunsError(FdsegError):
    """A folder of predictions is that of other runs or options."""


class Records:
    """The records of a folder of predictions, one small file for each volume.

    ``prediction.json`` says by what the predictions of the folder are made. ``records/NAME.json``
    says it of one volume, with size and digest of the volume and of every file made of it. It is
    written before these files get their places, and removed after they are gone. So whenever a
    process ends, each file that it leaves is known, and one that is not was made by others.

    Args:
        folder: of the predictions.
        facts: by what they are made, such as runs and options; plain values.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.path = folder / "prediction.json"

    def files(self, name: str) -> dict[str, Path]:
        """Return the files that can be made of a volume: labels, probabilities and overlay."""
        return {kind: self.folder / form.format(name) for kind, form in _NAMES.items()}

    def foreign(self, name: str, kinds: Iterable[str]) -> list[Path]:
        """Find files in the place of outputs that are not what fdseg.predict wrote there.

        A label map of its own that is empty or cut off is none of them: it is nobody's work.
        """
        files, made = self.files(name), _made(self._before.get(name))
        found = [files[kind] for kind in kinds if os.path.lexists(files[kind])]
        return [
            file
            for file in found
            if file.name not in made
            or (file == files["labels"] and not unchanged(file, made[file.name]) and _whole(file))
        ]

    def state(self, name: str, kinds: Iterable[str], volume: Path) -> State:
        """Tell how the predictions of a volume stand.

        Args:
            name: of the volume.
            kinds: of files that are wanted.
            volume: its file.

        Returns:
            ``done``; ``missing``, where not all is there; ``stale``, where a file is damaged, or
            made of the volume as it was before; ``other volume``, where they are those of another
            one of the same name; ``other runs``, where other runs or options made them.
        """
        record, files = self._before.get(name), self.files(name)
        made = _made(record)
        there = {kind for kind, file in files.items() if file.name in made and file.is_file()}
        if record is None or not there:
            return "missing"
        if record["prediction"] != self.facts:
            return "other runs"
        try:
            is_same = unchanged(volume, record["volume"])
        except FdsegError:
            return "missing"  # what is wrong with it is told when its turn comes
        if not is_same:
            is_it = record["volume"].get("file") == str(volume.resolve())
            return "stale" if is_it else "other volume"
        wanted = {*kinds}
        if not all(unchanged(files[kind], made[files[kind].name]) for kind in there & wanted):
            return "stale"
        return "done" if there >= wanted else "missing"

    def of_other_runs(self) -> set[str]:
        """Return the names of all volumes whose predictions other runs or options made."""
        return {
            name
            for name, record in self._before.items()
            if record["prediction"] != self.facts
            and any(file.name in _made(record) and file.is_file() for file in self._all(name))
        }

    def is_foreign(self) -> bool:
        """Tell whether the file in the place of the folder's own record is another one."""
        return self.path.exists() and not {*self.facts} <= {*(read_json(self.path) or ())}

    def claim(self) -> None:
        """Say that the folder's predictions are made by these facts.

        What killed processes left half-written is removed.
        """
        remove_abandoned(self.folder)
        if read_json(self.path) != self.facts:
            write_json(self.path, self.facts)

    def forget(self, name: str) -> None:
        """Remove the files made of a volume, and then their record."""
        made = _made(self._read(name))
        for file in self._all(name):
            if file.name in made:
                file.unlink(missing_ok=True)
        self._place(name).unlink(missing_ok=True)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Make a folder for files that are not whole yet, and remove it at the end."""
        with draft(self.folder / "prediction") as folder:
            folder.mkdir()
            yield folder

    def publish(self, name: str, volume: Mapping[str, Any], source: Path) -> None:
        """Record the files of a draft that are made of a volume, and give them their places.

        Args:
            name: of the volume.
            volume: its file, with the stamp that it had before it was read.
            source: folder of the draft.

        Raises:
            OtherRunsError: another process has begun to write predictions of other runs here.
        """
        if read_json(self.path) != self.facts:
            raise OtherRunsError(
                f"output={self.folder}: another process writes predictions of other runs or "
                f"options here now (see {self.path.name}). Choose another folder."
            )
        files = [file for file in self._all(name) if (source / file.name).is_file()]
        made = {file.name: stamp(source / file.name) for file in files}
        self.forget(name)
        record = {"prediction": self.facts, "volume": dict(volume), "files": made}
        write_json(self._place(name), record)
        for file in reversed(files):
            (source / file.name).replace(file)

    @cached_property
    def _before(self) -> dict[str, dict[str, Any]]:
        """All records by name, as they were when the first was asked for."""
        paths = (self.folder / "records").glob("*.json")
        found = {path.stem: self._read(path.stem) for path in paths}
        return {name: record for name, record in found.items() if record is not None}

    def _read(self, name: str) -> dict[str, Any] | None:
        """A record; ``None`` where there is none, or it is not one that this class writes."""
        record = read_json(self._place(name)) or {}
        parts = [record.get(key) for key in ("prediction", "volume", "files")]
        stamps = parts[2].values() if isinstance(parts[2], dict) else [None]
        return record if all(isinstance(part, dict) for part in (*parts, *stamps)) else None

    def _all(self, name: str) -> list[Path]:
        return list(self.files(name).values())

    def _place(self, name: str) -> Path:
        return self.folder / "records" / f"{name}.json"


def stamp(path: Path, *, with_times: bool = False) -> dict[str, Any]:
    """Return what tells later whether a file is still the same.

    Args:
        path: of the file.
        with_times: for one that will stay where it is, and is too large to be read each time.

    Raises:
        FdsegError: it cannot be read.
    """
    try:
        found = path.stat()
        times = {"times_ns": _times(found)} if with_times else {}
        return {"size": found.st_size, **times, "sha256": sha256(path)}
    except OSError as error:
        raise FdsegError(f"{path}: cannot be read ({error.strerror}).") from None


def unchanged(path: Path, before: Mapping[str, Any]) -> bool:
    """Tell whether a file is that of a stamp, by its size and its times or its content.

    Raises:
        FdsegError: it cannot be read.
    """
    try:
        found = path.stat()
        if found.st_size != before.get("size"):
            return False
        return _times(found) == before.get("times_ns") or sha256(path) == before.get("sha256")
    except OSError as error:
        raise FdsegError(f"{path}: cannot be read ({error.strerror}).") from None


def _times(found: os.stat_result) -> list[int]:
    """Return the time of change too: copying tools restore the other one."""
    return [found.st_mtime_ns, found.st_ctime_ns]


def _made(record: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The stamps of a record's files, by their names."""
    return record["files"] if record else {}


def _whole(path: Path) -> bool:
    """Whether a gzip file holds something, to its end."""
    try:
        with gzip.open(path) as file:
            return sum(len(part) for part in iter(lambda: file.read(2**20), b"")) > 0
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return False
